//! Responses of the server, and the checks that apply to all of them.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Error code of every authentication and authorisation error.
const AUTHENTICATION_CODE: u64 = 10_000;

/// A response with its unparsed body.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// A well-formed error response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ApiError {
    /// Message of the first error.
    pub(crate) message: String,
    /// JSON pointer of each error: empty for the whole body, `None` for an error outside the body.
    pub(crate) pointers: Vec<Option<String>>,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Value>,
    pub(crate) total: u64,
    /// Numbers of the first and the last item, or zeros for an empty page.
    pub(crate) offsets: (u64, u64),
}

impl Response {
    /// Returns the value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// Parses the body.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.bytes);
        parsed.unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// Returns the status and the body, for assertion messages and comparisons.
    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.bytes))
    }

    /// Returns the `data` of a success response with this status.
    #[track_caller]
    pub(crate) fn data(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.check_headers();
        assert_eq!(self.header("cache-control"), Some("no-store"));
        let mut body = self.json();
        assert_eq!(body["success"], true, "{body}");
        let names: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert!(
            names == ["data", "success"] || names == ["data", "paging", "success"],
            "{names:?}"
        );
        body["data"].take()
    }

    /// Returns a page of a list, after checking that its paging is consistent.
    #[track_caller]
    pub(crate) fn page(&self) -> Page {
        let Value::Array(items) = self.data(200) else {
            panic!("not a list: {}", self.text())
        };
        let paging = &self.json()["paging"];
        let number = |name: &str| {
            paging[name]
                .as_u64()
                .unwrap_or_else(|| panic!("no {name} in {paging}"))
        };
        let offsets = (number("start_offset"), number("end_offset"));
        let count = if offsets == (0, 0) {
            0
        } else {
            offsets.1 + 1 - offsets.0
        };
        assert_eq!(count, items.len() as u64, "{paging}");
        Page {
            items,
            total: number("total_count"),
            offsets,
        }
    }

    /// Returns the error of a response with this status. The body must fit both formats that
    /// clients read.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16) -> ApiError {
        assert_eq!(self.status, status, "{}", self.text());
        self.check_headers();
        let body = self.json();
        let message = body["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(!message.is_empty(), "{body}");
        let errors = body["errors"].as_array().unwrap();
        let code = if matches!(status, 401 | 403) {
            AUTHENTICATION_CODE
        } else {
            status.into()
        };
        assert!(errors.iter().all(|error| error["code"] == code), "{body}");
        let rest = json!({
            "success": false, "error": { "code": status, "message": message },
            "errors": errors, "messages": [], "result": null,
        });
        assert_eq!(body, rest);
        assert_eq!(errors[0]["message"], *message);
        let must_not_retry = matches!(status, 409 | 501);
        assert!(
            !must_not_retry || self.header("x-should-retry") == Some("false"),
            "{:?}",
            self.headers
        );
        let pointer = |error: &Value| Some(error.pointer("/source/pointer")?.as_str()?.to_owned());
        ApiError {
            message,
            pointers: errors.iter().map(pointer).collect(),
        }
    }

    #[track_caller]
    fn check_headers(&self) {
        assert_eq!(
            self.header("content-type"),
            Some("application/json"),
            "{}",
            self.text()
        );
        assert!(
            self.header("x-request-id").is_some_and(|id| !id.is_empty()),
            "{:?}",
            self.headers
        );
    }
}

impl ApiError {
    /// Checks that there is one error, with this message and this pointer.
    #[track_caller]
    pub(crate) fn assert_message(&self, message: &str, pointer: Option<&str>) {
        let expected = Self {
            message: message.to_owned(),
            pointers: vec![pointer.map(str::to_owned)],
        };
        assert_eq!(*self, expected);
    }
}

impl Page {
    /// Returns one text field of every item.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        self.items
            .iter()
            .map(|item| item[name].as_str().unwrap())
            .collect()
    }
}

/// Compares a body with its snapshot. Ids, times and tokens differ between runs, so they are
/// replaced by the name of their format.
#[track_caller]
pub(crate) fn assert_shape(name: &str, body: &Value) {
    insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_json_snapshot!(name, redacted(body));
    });
}

fn redacted(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, field)| (name.clone(), redacted(field)))
            .collect(),
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::String(text) => format_of(text).map_or_else(|| value.clone(), Value::from),
        other => other.clone(),
    }
}

/// Returns the name of the format that a text has.
fn format_of(text: &str) -> Option<&'static str> {
    let formats = [
        ("dddd-dd-ddTdd:dd:dd.dddZ", "[time]"),
        ("xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx", "[uuid]"),
        ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "[hex id]"),
    ];
    let name = formats
        .iter()
        .find(|(pattern, _)| matches_pattern(text, pattern))
        .map(|(_, name)| *name);
    name.or((text.starts_with("eyJ") && text.split('.').count() == 3).then_some("[token]"))
}

/// Returns whether a text matches `pattern`, in which `d` is a digit and `x` a lower-case hex
/// digit.
fn matches_pattern(text: &str, pattern: &str) -> bool {
    let matches = |(letter, pattern): (u8, u8)| match pattern {
        b'd' => letter.is_ascii_digit(),
        b'x' => letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter),
        literal => letter == literal,
    };
    text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(matches)
}
