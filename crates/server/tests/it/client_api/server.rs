//! The server under test, and participants of its meetings.

use std::path::Path;

use parlor_testkit::server::{ACCOUNT_ID, API_TOKEN};
use parlor_testkit::{ServerProcess, plain_http};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::process::{Storage, TestServer, shared_servers};

/// The upload limit of the servers, in bytes.
pub(crate) const FILE_BYTES: usize = 100_000;

thread_local! {
    /// One connection pool per test, because each test has its own thread and runtime.
    static HTTP: reqwest::Client = plain_http();
}

/// A running server.
pub(crate) struct Server {
    server: TestServer,
    app: String,
}

/// A participant, in a meeting of their own.
pub(crate) struct Participant {
    pub(crate) meeting: String,
    pub(crate) id: String,
    pub(crate) token: String,
}

/// A response whose body has been read.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Server {
    shared_servers!();

    /// Starts a dedicated server in a data directory.
    pub(crate) async fn start_in(folder: &Path, arguments: &[&str]) -> Self {
        Self::start(Storage::in_folder(folder), arguments).await
    }

    /// Starts a dedicated server in a data directory, with this upload limit in bytes.
    pub(crate) async fn with_upload_limit(bytes: usize, folder: &Path) -> Self {
        Self::start_with_limit(bytes, Storage::in_folder(folder), &[]).await
    }

    async fn start(storage: Storage, arguments: &[&str]) -> Self {
        Self::start_with_limit(FILE_BYTES, storage, arguments).await
    }

    async fn start_with_limit(file_bytes: usize, storage: Storage, arguments: &[&str]) -> Self {
        let bytes = file_bytes.to_string();
        let arguments = [arguments, &["--upload-bytes", &bytes]].concat();
        let server = TestServer::start(storage, &arguments).await;
        let app = server.process.first_app().await.unwrap();
        Self { server, app }
    }

    pub(crate) fn parlor(&self) -> &ServerProcess {
        &self.server.process
    }

    pub(crate) async fn stop(mut self) {
        assert!(self.server.process.terminate().await.unwrap().success());
    }

    pub(crate) fn app(&self) -> &str {
        &self.app
    }

    /// Builds a request to a path of this server.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        HTTP.with(|http| http.request(method, format!("{}{path}", self.server.process.url())))
    }

    /// Sends a `GET` with the token of a participant.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Response {
        Response::fetch(self.request(Method::GET, path).bearer_auth(token)).await
    }

    /// Sends a `POST` with the token of a participant.
    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Response {
        Response::fetch(
            self.request(Method::POST, path)
                .bearer_auth(token)
                .json(body),
        )
        .await
    }

    /// Sends a request to the REST API of the app and returns the `data`.
    pub(crate) async fn rest(&self, method: Method, path: &str, body: &Value) -> Value {
        let path = format!(
            "/client/v4/accounts/{ACCOUNT_ID}/realtime/kit/{}{path}",
            self.app
        );
        let request = self.request(method, &path).bearer_auth(API_TOKEN);
        let response = Response::fetch(request.json(body)).await;
        assert!(response.status < 300, "{response:?}");
        response.json()["data"].take()
    }

    /// Adds a participant to a new meeting, with additional fields.
    pub(crate) async fn add_participant(&self, preset: &str, with: Value) -> Participant {
        let meeting = json!({"title": "Weekly"});
        let meeting = self.rest(Method::POST, "/meetings", &meeting).await;
        let meeting = meeting["id"].as_str().unwrap().to_owned();
        let mut participant = json!({"custom_participant_id": "ada", "preset_name": preset});
        let with: serde_json::Map<_, _> = serde_json::from_value(with).unwrap();
        participant.as_object_mut().unwrap().extend(with);
        let path = format!("/meetings/{meeting}/participants");
        let added = self.rest(Method::POST, &path, &participant).await;
        let text = |name: &str| added[name].as_str().unwrap().to_owned();
        Participant {
            id: text("id"),
            token: text("token"),
            meeting,
        }
    }

    /// Adds a host to a new meeting.
    pub(crate) async fn host(&self) -> Participant {
        self.add_participant("group_call_host", json!({})).await
    }

    /// Creates a preset with these permissions and returns its name.
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

impl Response {
    /// Sends the request and reads the response.
    pub(crate) async fn fetch(request: RequestBuilder) -> Self {
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

    /// Checks the status of an error that the SDK can read from any origin, and returns its
    /// message.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        assert_eq!(self.status, status, "{text}");
        assert_eq!(self.header("access-control-allow-origin"), Some("*"));
        let body = self.json();
        assert_eq!(body["success"], false, "{body}");
        body["error"]["message"].as_str().unwrap().to_owned()
    }

    /// Checks that the request succeeded and returns the `data`.
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
