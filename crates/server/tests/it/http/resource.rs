//! Resources of the API, to which the tests send requests.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use parlor_testkit::plain_http;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::http::response::Response;

/// A well-formed id that does not exist.
pub(crate) const UNKNOWN_ID: &str = "0190f3c0-a0b1-7c1d-8e2f-0123456789ab";

thread_local! {
    /// One connection pool per test, since each test has its own thread and runtime.
    static HTTP: reqwest::Client = plain_http();
}

/// Returns the value of an `Authorization: Basic` header.
pub(crate) fn basic_auth(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{user}:{password}"))
    )
}

/// The URL of a resource, and the headers of every request to it. Request methods take a path below
/// the URL.
#[derive(Clone)]
pub(crate) struct Resource {
    http: reqwest::Client,
    url: String,
    headers: HeaderMap,
}

impl Resource {
    /// A resource without credentials.
    pub(crate) fn new(url: &str) -> Self {
        Self {
            http: HTTP.with(Clone::clone),
            url: url.to_owned(),
            headers: HeaderMap::new(),
        }
    }

    /// Returns the resource at a path below this one.
    pub(crate) fn join(&self, rest: &str) -> Self {
        Self {
            url: format!("{}{rest}", self.url),
            ..self.clone()
        }
    }

    /// Returns the same resource with a header added or replaced.
    pub(crate) fn with_header(&self, name: &'static str, value: &str) -> Self {
        let mut resource = self.clone();
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        resource
            .headers
            .insert(HeaderName::from_static(name), value);
        resource
    }

    /// Returns the same resource with an API token.
    pub(crate) fn with_token(&self, secret: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {secret}"))
    }

    /// Returns the same resource with an `Idempotency-Key`.
    pub(crate) fn with_idempotency_key(&self, key: &str) -> Self {
        self.with_header("idempotency-key", key)
    }

    /// Returns the last segment of the path, which is the id of the resource.
    pub(crate) fn id(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    /// Returns the host and port, for raw requests.
    pub(crate) fn address(&self) -> &str {
        self.url
            .trim_start_matches("http://")
            .split('/')
            .next()
            .unwrap()
    }

    /// Returns the path from the root of the host.
    pub(crate) fn path(&self) -> &str {
        let (_, path) = self.url.split_once(self.address()).unwrap();
        path
    }

    /// Returns a raw GET request for a path below this resource.
    pub(crate) fn raw_get(&self, rest: &str) -> String {
        let path = self.path();
        let authorization = self.headers["authorization"].to_str().unwrap();
        format!(
            "GET {path}{rest} HTTP/1.1\r\nhost: parlor\r\nauthorization: {authorization}\r\n\r\n"
        )
    }

    /// Returns the raw head of a POST request to the participants of this meeting, with more
    /// headers.
    pub(crate) fn raw_post_head(&self, header: &str) -> String {
        let path = self.path();
        let authorization = self.headers["authorization"].to_str().unwrap();
        format!(
            "POST {path}/participants HTTP/1.1\r\nhost: parlor\r\nauthorization: {authorization}\r\n{header}\r\n\r\n"
        )
    }

    /// Creates an app in this account.
    pub(crate) async fn app(&self) -> Self {
        let created = self
            .post("/apps", &json!({ "name": "Test" }))
            .await
            .data(200);
        self.join(&format!("/{}", created["app"]["id"].as_str().unwrap()))
    }

    /// Creates a meeting in this app.
    pub(crate) async fn meeting(&self) -> Self {
        let created = self.post("/meetings", &json!({})).await.data(201);
        self.join(&format!("/meetings/{}", created["id"].as_str().unwrap()))
    }

    pub(crate) async fn get(&self, rest: &str) -> Response {
        self.send(Method::GET, rest, None).await
    }

    pub(crate) async fn post(&self, rest: &str, body: &Value) -> Response {
        self.send(Method::POST, rest, Some(body)).await
    }

    pub(crate) async fn patch(&self, rest: &str, body: &Value) -> Response {
        self.send(Method::PATCH, rest, Some(body)).await
    }

    pub(crate) async fn put(&self, rest: &str, body: &Value) -> Response {
        self.send(Method::PUT, rest, Some(body)).await
    }

    pub(crate) async fn delete(&self, rest: &str) -> Response {
        self.send(Method::DELETE, rest, None).await
    }

    /// Sends a request with an optional JSON body.
    pub(crate) async fn send(&self, method: Method, rest: &str, body: Option<&Value>) -> Response {
        let json = |body: &Value| ("application/json", body.to_string().into_bytes());
        self.send_bytes(method, rest, body.map(json)).await
    }

    /// Sends a request with an optional body, given as its content type and bytes.
    pub(crate) async fn send_bytes(
        &self,
        method: Method,
        rest: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Response {
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
        Response {
            status,
            headers,
            bytes: response.bytes().await.unwrap().to_vec(),
        }
    }
}
