//! The server under test, and people in its meetings.

use std::path::Path;

use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use parlor_testkit::{Parlor, plain_http};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::process::{Records, ServerProcess, shared_servers};

/// Largest file that the servers of this process take.
pub(crate) const FILE_BYTES: usize = 100_000;

thread_local! {
    /// One pool of connections for each test: a test is a thread and a runtime of its own.
    static HTTP: reqwest::Client = plain_http();
}

/// A running server.
pub(crate) struct Server {
    process: ServerProcess,
    app: String,
}

/// A person in a meeting of their own, with the preset they were asked to have.
pub(crate) struct Person {
    pub(crate) meeting: String,
    pub(crate) id: String,
    pub(crate) token: String,
}

/// One answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Server {
    shared_servers!();

    /// A server of its own on a data directory.
    pub(crate) async fn on(folder: &Path, arguments: &[&str]) -> Self {
        Self::start(Records::at(folder), arguments).await
    }

    /// A server of its own on a data directory, which takes files of so many bytes.
    pub(crate) async fn for_files_of(bytes: usize, folder: &Path) -> Self {
        Self::taking(bytes, Records::at(folder), &[]).await
    }

    async fn start(records: Records, arguments: &[&str]) -> Self {
        Self::taking(FILE_BYTES, records, arguments).await
    }

    async fn taking(file_bytes: usize, records: Records, arguments: &[&str]) -> Self {
        let bytes = file_bytes.to_string();
        let arguments = [arguments, &["--upload-bytes", &bytes]].concat();
        let process = ServerProcess::start(records, &arguments).await;
        let app = process.parlor.first_app().await.unwrap();
        Self { process, app }
    }

    pub(crate) fn parlor(&self) -> &Parlor {
        &self.process.parlor
    }

    pub(crate) async fn stop(mut self) {
        assert!(self.process.parlor.terminate().await.unwrap().success());
    }

    pub(crate) fn app(&self) -> &str {
        &self.app
    }

    /// A request to a path of this server.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        HTTP.with(|http| http.request(method, format!("{}{path}", self.process.parlor.url())))
    }

    /// A `GET` with a participant's token.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        Answer::of(self.request(Method::GET, path).bearer_auth(token)).await
    }

    /// A `POST` with a participant's token.
    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        Answer::of(
            self.request(Method::POST, path)
                .bearer_auth(token)
                .json(body),
        )
        .await
    }

    /// The REST API, as the app's backend.
    pub(crate) async fn rest(&self, method: Method, path: &str, body: &Value) -> Value {
        let path = format!(
            "/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{}{path}",
            self.app
        );
        let request = self.request(method, &path).bearer_auth(API_TOKEN);
        let answer = Answer::of(request.json(body)).await;
        assert!(answer.status < 300, "{answer:?}");
        answer.json()["data"].take()
    }

    /// Somebody in a new meeting, added with this.
    pub(crate) async fn added(&self, preset: &str, with: Value) -> Person {
        let meeting = json!({"title": "Weekly"});
        let meeting = self.rest(Method::POST, "/meetings", &meeting).await;
        let meeting = meeting["id"].as_str().unwrap().to_owned();
        let mut person = json!({"custom_participant_id": "ada", "preset_name": preset});
        let with: serde_json::Map<_, _> = serde_json::from_value(with).unwrap();
        person.as_object_mut().unwrap().extend(with);
        let path = format!("/meetings/{meeting}/participants");
        let added = self.rest(Method::POST, &path, &person).await;
        let text = |name: &str| added[name].as_str().unwrap().to_owned();
        Person {
            id: text("id"),
            token: text("token"),
            meeting,
        }
    }

    /// Somebody in a new meeting who may do everything.
    pub(crate) async fn host(&self) -> Person {
        self.added("group_call_host", json!({})).await
    }

    /// A preset of this server's app with some permissions changed; its name.
    pub(crate) async fn preset(&self, name: &str, permissions: Value) -> String {
        let name = format!(
            "{name} {}",
            uuid::Builder::from_random_bytes(random()).into_uuid()
        );
        let preset = json!({"name": name, "permissions": permissions});
        self.rest(Method::POST, "/presets", &preset).await;
        name
    }
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}

impl Answer {
    pub(crate) async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap().to_vec();
        Self {
            status,
            headers,
            bytes,
        }
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.bytes).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// The first message of a refusal, which the SDK must be able to read from any page.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("access-control-allow-origin"), Some("*"));
        let body = self.json();
        assert_eq!(body["success"], false, "{body}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    /// The `data` of a success.
    #[track_caller]
    pub(crate) fn data(&self) -> Value {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, 200, "{text}");
        assert_eq!(self.header("access-control-allow-origin"), Some("*"));
        let mut body = self.json();
        assert_eq!(body["success"], true, "{body}");
        body["data"].take()
    }
}
