//! The success envelope: `{"success": true, "data": …}`, with `paging` for lists.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

use crate::paging::{Page, Paging};

/// The response of a successful operation.
pub trait ApiResponse: Send + 'static {
    /// The response body as JSON.
    fn to_json(&self) -> Vec<u8>;

    /// The schema of the response body.
    fn schema(generator: &mut SchemaGenerator) -> Schema;
}

/// A single object, or a list without paging.
#[derive(Debug, Clone)]
pub struct Data<T>(pub T);

#[derive(Serialize)]
struct Envelope<'a, T> {
    success: bool,
    data: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    paging: Option<&'a Paging>,
}

fn encode<T: Serialize>(data: &T, paging: Option<&Paging>) -> Vec<u8> {
    let mut body = Vec::with_capacity(1024);
    let envelope = Envelope {
        success: true,
        data,
        paging,
    };
    serde_json::to_writer(&mut body, &envelope).expect("responses are plain data with string keys");
    body
}

fn envelope_schema(data: &Schema, paging: Option<Schema>) -> Schema {
    let mut required = vec!["success", "data"];
    let mut properties = serde_json::json!({
        "success": {"type": "boolean", "const": true},
        "data": data,
    });
    if let Some(paging) = paging {
        required.push("paging");
        properties["paging"] = paging.into();
    }
    schemars::json_schema!({"type": "object", "required": required, "properties": properties})
}

impl<T: Serialize + JsonSchema + Send + 'static> ApiResponse for Data<T> {
    fn to_json(&self) -> Vec<u8> {
        encode(&self.0, None)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let data = generator.subschema_for::<T>();
        envelope_schema(&data, None)
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> ApiResponse for Page<T> {
    fn to_json(&self) -> Vec<u8> {
        encode(&self.items, Some(&self.paging))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let data = generator.subschema_for::<Vec<T>>();
        let paging = generator.subschema_for::<Paging>();
        envelope_schema(&data, Some(paging))
    }
}
