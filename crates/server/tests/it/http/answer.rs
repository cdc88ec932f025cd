//! What a server answered, and the rules that hold for all answers.

use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// The code of every problem with credentials.
const AUTHENTICATION_CODE: u64 = 10_000;

/// One answer, byte by byte.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

/// A refusal that kept to the rules.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The first problem.
    pub(crate) message: String,
    /// Where each problem is; empty text for the whole body, `None` outside of it.
    pub(crate) pointers: Vec<Option<String>>,
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) items: Vec<Value>,
    pub(crate) total: u64,
    /// Numbers of the first and the last item.
    pub(crate) span: (u64, u64),
}

impl Answer {
    /// A header, if it is there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().unwrap())
    }

    /// The body.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.bytes);
        parsed.unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        format!("{} {}", self.status, String::from_utf8_lossy(&self.bytes))
    }

    /// The `data` of a success with this status.
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

    /// The page of a list.
    #[track_caller]
    pub(crate) fn page(&self) -> Listed {
        let Value::Array(items) = self.data(200) else {
            panic!("no list: {}", self.text())
        };
        let paging = &self.json()["paging"];
        let number = |name: &str| {
            paging[name]
                .as_u64()
                .unwrap_or_else(|| panic!("no {name} in {paging}"))
        };
        let span = (number("start_offset"), number("end_offset"));
        let count = if span == (0, 0) {
            0
        } else {
            span.1 + 1 - span.0
        };
        assert_eq!(count, items.len() as u64, "{paging}");
        Listed {
            items,
            total: number("total_count"),
            span,
        }
    }

    /// The refusal with this status, which both conventions of clients can read.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> Refusal {
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
        let must_not_repeat = matches!(status, 409 | 501);
        assert!(
            !must_not_repeat || self.header("x-should-retry") == Some("false"),
            "{:?}",
            self.headers
        );
        let pointer = |error: &Value| Some(error.pointer("/source/pointer")?.as_str()?.to_owned());
        Refusal {
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

impl Refusal {
    /// Checks the text and the place of the only problem.
    #[track_caller]
    pub(crate) fn is(&self, message: &str, pointer: Option<&str>) {
        let only = Self {
            message: message.to_owned(),
            pointers: vec![pointer.map(str::to_owned)],
        };
        assert_eq!(*self, only);
    }
}

impl Listed {
    /// One field of every item.
    pub(crate) fn texts(&self, name: &str) -> Vec<&str> {
        self.items
            .iter()
            .map(|item| item[name].as_str().unwrap())
            .collect()
    }
}

/// Compares a body with its stored shape. Ids, times and tokens differ between runs, but their
/// form does not.
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
        Value::String(text) => form_of(text).map_or_else(|| value.clone(), Value::from),
        other => other.clone(),
    }
}

fn form_of(text: &str) -> Option<&'static str> {
    let forms = [
        ("dddd-dd-ddTdd:dd:dd.dddZ", "[time]"),
        ("xxxxxxxx-xxxx-7xxx-xxxx-xxxxxxxxxxxx", "[uuid]"),
        ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "[hex id]"),
    ];
    let form = forms
        .iter()
        .find(|(form, _)| has_form(text, form))
        .map(|(_, name)| *name);
    form.or((text.starts_with("eyJ") && text.split('.').count() == 3).then_some("[token]"))
}

/// Whether a text is `form`, in which `d` stands for a digit and `x` for a lower-case hex digit.
fn has_form(text: &str, form: &str) -> bool {
    let fits = |(letter, form): (u8, u8)| match form {
        b'd' => letter.is_ascii_digit(),
        b'x' => letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter),
        literal => letter == literal,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(fits)
}
