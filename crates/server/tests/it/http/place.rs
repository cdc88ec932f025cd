//! Places on a server to send requests to.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parlor_testkit::plain_http;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::http::answer::Answer;

/// An id of the right form that names nothing.
pub(crate) const NOBODYS_ID: &str = "0190f3c0-a0b1-7c1d-8e2f-0123456789ab";

thread_local! {
    /// One pool of connections for each test: a test is a thread and a runtime of its own.
    static HTTP: reqwest::Client = plain_http();
}

/// The value of an `Authorization: Basic` header.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// A URL with the headers that every request below it carries.
#[derive(Clone)]
pub(crate) struct Place {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
}

impl Place {
    /// The root of a server, without credentials.
    pub(crate) fn of(origin: &str) -> Self {
        Self {
            http: HTTP.with(Clone::clone),
            url: origin.to_owned(),
            headers: HeaderMap::new(),
        }
    }

    /// What is below this place.
    pub(crate) fn at(&self, rest: &str) -> Self {
        Self {
            url: format!("{}{rest}", self.url),
            ..self.clone()
        }
    }

    /// The same place with one more header, or another value of it.
    pub(crate) fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut place = self.clone();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        place.headers.insert(HeaderName::from_static(name), value);
        place
    }

    /// The same place with an API token.
    pub(crate) fn bearing(&self, secret: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {secret}"))
    }

    /// The same place with a caller's `Idempotency-Key`.
    pub(crate) fn keyed(&self, key: &str) -> Self {
        self.with_header("idempotency-key", key)
    }

    /// The last segment of the path: the id of what is here.
    pub(crate) fn id(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    /// Host and port, for requests that are written by hand.
    pub(crate) fn address(&self) -> &str {
        self.url
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap()
    }

    /// The path of this place, from the root of the host.
    pub(crate) fn path(&self) -> &str {
        let (_, path) = self.url.split_once(self.address()).unwrap();
        path
    }

    /// A GET of what is below this place, written by hand.
    pub(crate) fn get_by_hand(&self, rest: &str) -> String {
        let path = self.path();
        let authorization = self.headers["authorization"].to_str().unwrap();
        format!(
            "GET {path}{rest} HTTP/1.1\r\nhost: parlor\r\nauthorization: {authorization}\r\n\r\n"
        )
    }

    /// The head of a POST to the participants that are here, written by hand with one more header.
    pub(crate) fn head(&self, header: &str) -> String {
        let path = self.path();
        let authorization = self.headers["authorization"].to_str().unwrap();
        format!(
            "POST {path}/participants HTTP/1.1\r\nhost: parlor\r\nauthorization: {authorization}\r\n{header}\r\n\r\n"
        )
    }

    /// A new app of the account that is here.
    pub(crate) async fn app(&self) -> Self {
        let made = self
            .post("/apps", &json!({ "name": "Test" }))
            .await
            .data(200);
        self.at(&format!("/{}", made["app"]["id"].as_str().unwrap()))
    }

    /// A new meeting of the app that is here.
    pub(crate) async fn meeting(&self) -> Self {
        let made = self.post("/meetings", &json!({})).await.data(201);
        self.at(&format!("/meetings/{}", made["id"].as_str().unwrap()))
    }

    pub(crate) async fn get(&self, rest: &str) -> Answer {
        self.send(Method::GET, rest, None).await
    }

    pub(crate) async fn post(&self, rest: &str, body: &Value) -> Answer {
        self.send(Method::POST, rest, Some(body)).await
    }

    pub(crate) async fn patch(&self, rest: &str, body: &Value) -> Answer {
        self.send(Method::PATCH, rest, Some(body)).await
    }

    pub(crate) async fn put(&self, rest: &str, body: &Value) -> Answer {
        self.send(Method::PUT, rest, Some(body)).await
    }

    pub(crate) async fn delete(&self, rest: &str) -> Answer {
        self.send(Method::DELETE, rest, None).await
    }

    /// Any method, with a JSON body or none.
    pub(crate) async fn send(&self, method: Method, rest: &str, body: Option<&Value>) -> Answer {
        let json = |body: &Value| ("application/json", body.to_string().into_bytes());
        self.send_bytes(method, rest, body.map(json)).await
    }

    /// Any method, with any body of a content type or none.
    pub(crate) async fn send_bytes(
        &self,
        method: Method,
        rest: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Answer {
        let url = format!("{}{rest}", self.url);
        let mut request = self
            .http
            .request(method, &url)
            .headers(self.headers.clone());
        if let Some((content_type, bytes)) = body {
            request = request.header("content-type", content_type).body(bytes);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer {
            status,
            headers,
            bytes: response.bytes().await.unwrap().to_vec(),
        }
    }
}
