//! A JSON client that hides nothing: status, headers and body come back as they were sent.

use anyhow::{Context, Result, ensure};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// Calls one server, with the same headers on every call. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    origin: String,
    headers: HeaderMap,
}

/// What the server answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: StatusCode,
    /// The HTTP headers.
    pub headers: HeaderMap,
    /// The JSON body; `Null` when empty, a string when it is not JSON.
    pub body: Value,
}

/// A client that speaks HTTP and trusts no certificate.
///
/// [`reqwest::Client::new`] reads all certificates that the machine trusts, which takes a debug build
/// longer than most tests.
pub fn plain_http() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([])
        .build()
        .expect("nothing is configured that could be wrong")
}

impl Client {
    /// A client of `origin`, for example `http://127.0.0.1:8787`, without credentials.
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            http: plain_http(),
            origin: origin.into(),
            headers: HeaderMap::new(),
        }
    }

    /// The same client with an API token in `Authorization`.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// The same client with one more header, or another value of it.
    ///
    /// # Panics
    /// When the name or the value cannot stand in a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a test writes valid header values");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// `GET path`, where `path` starts with a slash and may have a query.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, None).await
    }

    /// `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// `PATCH path` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// `PUT path` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<Answer> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<Answer> {
        self.send(Method::DELETE, path, None).await
    }

    /// Any method, with or without a JSON body.
    ///
    /// # Errors
    /// When no whole answer came back. Every status is an answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.origin))
            .headers(self.headers.clone());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await?;
        let body = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or(Value::String(text))
        };
        Ok(Answer {
            status,
            headers,
            body,
        })
    }
}

impl Answer {
    /// The `data` of an answer that must have this status.
    ///
    /// # Errors
    /// With the whole body, when the status is another one or `data` is missing.
    pub fn expect(mut self, status: u16) -> Result<Value> {
        ensure!(
            self.status.as_u16() == status,
            "{} instead of {status}: {}",
            self.status,
            self.body
        );
        let part = self.body.get_mut("data").map(Value::take);
        part.with_context(|| format!("no `data` in {}", self.body))
    }
}
