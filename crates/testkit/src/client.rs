//! A JSON client of the REST API that returns the status, headers and body of every response.

use anyhow::{Context, Result, ensure};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::Value;

/// A client of one server that sends the same headers with every request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    origin: String,
    headers: HeaderMap,
}

/// A response of the server.
#[derive(Clone, Debug)]
pub struct HttpResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// HTTP headers.
    pub headers: HeaderMap,
    /// JSON body; `Null` when it is empty, a string when it is not JSON.
    pub body: Value,
}

/// Creates an HTTP client that trusts no certificate.
///
/// [`reqwest::Client::new`] loads all certificates that the machine trusts, which takes longer than
/// most tests in a debug build.
pub fn plain_http() -> reqwest::Client {
    reqwest::Client::builder()
        .tls_certs_only([])
        .build()
        .expect("the configuration is valid")
}

impl Client {
    /// Creates a client of `origin`, for example `http://127.0.0.1:8787`, without credentials.
    pub fn new(origin: impl Into<String>) -> Self {
        Self {
            http: plain_http(),
            origin: origin.into(),
            headers: HeaderMap::new(),
        }
    }

    /// Adds an API token in `Authorization`.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with_header("authorization", &format!("Bearer {token}"))
    }

    /// Adds or replaces a header.
    ///
    /// # Panics
    /// When the name or the value is not valid in a header.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a valid header value");
        self.headers.insert(HeaderName::from_static(name), value);
        self
    }

    /// Sends `GET path`, where `path` starts with a slash and may have a query.
    pub async fn get(&self, path: &str) -> Result<HttpResponse> {
        self.send(Method::GET, path, None).await
    }

    /// Sends `POST path` with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Result<HttpResponse> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends `PATCH path` with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Result<HttpResponse> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// Sends `PUT path` with a JSON body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<HttpResponse> {
        self.send(Method::PUT, path, Some(body)).await
    }

    /// Sends `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<HttpResponse> {
        self.send(Method::DELETE, path, None).await
    }

    /// Sends a request with any method, with or without a JSON body.
    ///
    /// # Errors
    /// When no complete response is received. An error status is not an error here.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<HttpResponse> {
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
        Ok(HttpResponse {
            status,
            headers,
            body,
        })
    }
}

impl HttpResponse {
    /// Returns the `data` of a response that must have this status.
    ///
    /// # Errors
    /// When the status is different or `data` is missing. The message includes the body.
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
