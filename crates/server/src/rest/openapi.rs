//! The OpenAPI 3.1 description of the API, generated from the operations' own types.
//!
//! Requests and responses have separate schemas, because a field with a default is optional in a
//! request and always present in a response. Where the two differ, the request's schema has the
//! suffix `Input`.

use std::collections::HashMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::operations::{self, OPERATIONS, Operation};
use crate::http::endpoint::{Endpoint, Surface};
use crate::http::error::ErrorBody;
use crate::http::idempotency::KEY_MAX;
use crate::limits::Limits;

/// Generates the document for a server with these limits.
pub fn document(limits: &Limits) -> Value {
    let mut describer = Describer::new();
    let mut paths = Map::new();
    for endpoint in super::endpoints() {
        for (surface, path) in endpoint.mounts() {
            let operation = describer.operation(&endpoint, surface, &path);
            put(&mut paths, path, endpoint.method.as_str(), operation);
        }
    }
    for operation in operations::planned() {
        for (surface, path) in operation.mounts() {
            let operation_object = planned(operation, surface, &path);
            put(
                &mut paths,
                path,
                operation.method().as_str(),
                operation_object,
            );
        }
    }
    let (schemas, renamed) = describer.schemas();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Parlor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Self-hosted video meetings with the API of Cloudflare RealtimeKit. Operations have the same \
                names and paths as in RealtimeKit's REST API; extensions are marked as such.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": tags(),
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": errors(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "An API token."},
                "email": {"type": "apiKey", "in": "header", "name": "X-Auth-Email", "description": "Any value. Required together with `X-Auth-Key`."},
                "key": {"type": "apiKey", "in": "header", "name": "X-Auth-Key", "description": "An API token."},
                "app": {"type": "http", "scheme": "basic", "description": "The app id as the user name and an API token with access to the app as the password."},
            },
        },
    });
    let mut document = refer_to_schemas(document, &renamed);
    let schemas = document["components"]["schemas"].as_object_mut();
    for (_, schema) in schemas.into_iter().flatten() {
        if let Some(expires_in) = schema.pointer_mut("/properties/expires_in") {
            expires_in["maximum"] = limits.token_life_max_secs.into();
        }
    }
    document
}

fn put(paths: &mut Map<String, Value>, path: String, method: &str, operation: Value) {
    let item = paths.entry(path).or_insert_with(|| json!({}));
    item[method.to_lowercase()] = operation;
}

fn tags() -> Vec<Value> {
    let mut names: Vec<&str> = OPERATIONS.iter().map(|operation| operation.tag).collect();
    names.dedup();
    names
        .into_iter()
        .map(|name| json!({"name": name}))
        .collect()
}

/// The tag of an operation: RealtimeKit's, or for an extension that of the resource in its path.
fn tag(endpoint: &Endpoint) -> &'static str {
    let known = OPERATIONS
        .iter()
        .find(|operation| operation.name == endpoint.id);
    let near = || {
        OPERATIONS
            .iter()
            .rfind(|operation| endpoint.path.starts_with(operation.path))
    };
    known
        .or_else(near)
        .map_or("Apps", |operation| operation.tag)
}

fn security(surface: Surface) -> Value {
    match surface {
        Surface::A => json!([{"token": []}, {"email": [], "key": []}]),
        Surface::B => json!([{"app": []}]),
    }
}

fn operation_id(name: &str, surface: Surface) -> String {
    match surface {
        Surface::A => name.to_owned(),
        Surface::B => format!("{name}V2"),
    }
}

/// The account and app parameters, which precede an operation's own.
fn scope_parameters(path: &str) -> Vec<Value> {
    let known = [
        (
            "account_id",
            "The account id: 32 hex digits.",
            "^[0-9a-fA-F]{32}$",
        ),
        (
            "app_id",
            "The app id: 32 hex digits, or the same id in UUID format.",
            "^[0-9a-fA-F]{32}$|^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
        ),
    ];
    let used = known
        .into_iter()
        .filter(|(name, ..)| path.contains(&format!("{{{name}}}")));
    used.map(|(name, description, pattern)| {
        json!({"name": name, "in": "path", "required": true, "description": description,
               "schema": {"type": "string", "pattern": pattern}})
    })
    .collect()
}

fn planned(operation: &Operation, surface: Surface, path: &str) -> Value {
    let mut parameters = scope_parameters(path);
    for name in path
        .split('{')
        .skip(1)
        .filter_map(|rest| rest.split('}').next())
    {
        if !matches!(name, "account_id" | "app_id") {
            parameters.push(
                json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}),
            );
        }
    }
    json!({
        "operationId": operation_id(operation.name, surface),
        "tags": [operation.tag],
        "summary": operation.name,
        "description": "Not implemented in this version. Always returns 501.",
        "x-parlor-status": "planned",
        "security": security(surface),
        "parameters": parameters,
        "responses": {"501": {"$ref": "#/components/responses/501"}},
    })
}

const ERRORS: [(u16, &str); 13] = [
    (
        400,
        "The request is invalid. For errors in the body, `errors[].source.pointer` locates the invalid field.",
    ),
    (401, "The credentials are missing or invalid."),
    (403, "The API token does not grant access to this resource."),
    (
        404,
        "The resource, or one that the request refers to, does not exist.",
    ),
    (405, "The path does not support this method."),
    (408, "The request body did not arrive in time."),
    (
        409,
        "The resource already exists. Retrying does not help; `x-should-retry` is `false`.",
    ),
    (413, "The request body is too large."),
    (
        422,
        "The `Idempotency-Key` was used with a different request.",
    ),
    (
        429,
        "Too many requests. Retry after the number of seconds in `retry-after`.",
    ),
    (
        500,
        "An internal error. The server logs the cause under the request id.",
    ),
    (501, "The operation is not implemented in this version."),
    (
        503,
        "The database is unavailable or the server is shutting down. Retry the request.",
    ),
];

fn errors() -> Value {
    let body = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
    let described = ERRORS.map(|(status, description)| {
        let mut response = json!({"description": description, "content": body});
        if matches!(status, 429 | 503) {
            let seconds = json!({"description": "Seconds to wait before the next request.", "schema": {"type": "integer", "minimum": 1}});
            response["headers"] = json!({"retry-after": seconds});
        }
        (status.to_string(), response)
    });
    described.into_iter().collect::<Map<_, _>>().into()
}

/// The schema generators for requests and responses.
struct Describer {
    input: SchemaGenerator,
    output: SchemaGenerator,
}

impl Describer {
    fn new() -> Self {
        let settings = |path: &str| {
            let path = path.to_owned();
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = path.into();
                settings.meta_schema = None;
            })
        };
        let input = settings(INPUTS).for_deserialize().into_generator();
        let mut output = settings(SCHEMAS).for_serialize().into_generator();
        output.subschema_for::<ErrorBody<'_>>();
        Self { input, output }
    }

    fn operation(&mut self, endpoint: &Endpoint, surface: Surface, path: &str) -> Value {
        let mut operation = json!({
            "operationId": operation_id(endpoint.id, surface),
            "tags": [tag(endpoint)],
            "summary": endpoint.title,
            "description": endpoint.description,
            "x-parlor-status": "available",
            "security": security(surface),
            "parameters": self.parameters(endpoint, path),
            "responses": self.responses(endpoint),
        });
        if endpoint.has_body() {
            let schema: Value = (endpoint.types.body)(&mut self.input).into();
            let required = self.needs_fields(&schema);
            operation["requestBody"] =
                json!({"required": required, "content": {"application/json": {"schema": schema}}});
        }
        operation
    }

    /// Whether the body has required fields. An absent body is read as an empty object.
    fn needs_fields(&self, schema: &Value) -> bool {
        let name = schema["$ref"]
            .as_str()
            .and_then(|path| path.rsplit('/').next())
            .unwrap_or_default();
        let needs = |schema: &Value| {
            let fields = schema["required"].as_array();
            fields.is_some_and(|fields| !fields.is_empty())
        };
        let schema = self.input.definitions().get(name);
        schema.is_some_and(|schema| {
            let choices = schema["anyOf"].as_array();
            needs(schema) || choices.is_some_and(|choices| choices.iter().all(needs))
        })
    }

    fn parameters(&mut self, endpoint: &Endpoint, path: &str) -> Vec<Value> {
        let mut parameters = scope_parameters(path);
        let own: Value = (endpoint.types.path)(&mut self.input).into();
        parameters.extend(property_parameters(&own, "path"));
        let query: Value = (endpoint.types.query)(&mut self.input).into();
        parameters.extend(property_parameters(&query, "query"));
        let mut headers = endpoint.headers.to_vec();
        if endpoint.method == http::Method::POST {
            headers.push((
                "Idempotency-Key",
                "Makes the request safe to retry. A repeated request with the same key returns the \
                 response to the first one for 24 hours.",
            ));
        }
        for (name, description) in headers {
            let schema = match name {
                "Parlor-If-Exists" => json!({"type": "string", "enum": ["update", "reject"]}),
                _ => {
                    json!({"type": "string", "minLength": 1, "maxLength": KEY_MAX, "pattern": "^[!-~]+$"})
                }
            };
            parameters.push(
                json!({"name": name, "in": "header", "description": description, "schema": schema}),
            );
        }
        parameters
    }

    fn responses(&mut self, endpoint: &Endpoint) -> Value {
        let schema: Value = (endpoint.types.response)(&mut self.output).into();
        let success =
            json!({"description": "Success.", "content": {"application/json": {"schema": schema}}});
        let mut responses = Map::new();
        responses.insert(endpoint.success.as_u16().to_string(), success);
        let has = |status: u16| match status {
            404 => endpoint.not_found,
            409 => endpoint.conflict,
            408 | 413 => endpoint.has_body(),
            422 => endpoint.method == http::Method::POST,
            405 | 501 => false,
            _ => true,
        };
        for (status, _) in ERRORS.into_iter().filter(|(status, _)| has(*status)) {
            let reference = json!({"$ref": format!("#/components/responses/{status}")});
            responses.insert(status.to_string(), reference);
        }
        responses.into()
    }

    /// Returns all schemas, and the new names of the request schemas that differ from the response
    /// schema of the same name.
    fn schemas(mut self) -> (Map<String, Value>, HashMap<String, String>) {
        let mut schemas = self.output.take_definitions(true);
        let inputs = self.input.take_definitions(true);
        let mut renamed = HashMap::new();
        // A schema also differs when one that it refers to does, at any depth.
        loop {
            let differs = |(name, input): &(&String, &Value)| {
                let same = |output: &Value| *output == refer_to_schemas((*input).clone(), &renamed);
                !renamed.contains_key(*name)
                    && schemas.get(*name).is_some_and(|output| !same(output))
            };
            let found: Vec<String> = inputs
                .iter()
                .filter(differs)
                .map(|(name, _)| name.clone())
                .collect();
            if found.is_empty() {
                break;
            }
            renamed.extend(
                found
                    .into_iter()
                    .map(|name| (name.clone(), format!("{name}Input"))),
            );
        }
        for (name, input) in inputs {
            let name = renamed.get(&name).cloned().unwrap_or(name);
            schemas.insert(name, input);
        }
        (schemas, renamed)
    }
}

/// The definitions path of the document.
const SCHEMAS: &str = "/components/schemas";
/// A temporary definitions path for request schemas, used until their final names are known.
const INPUTS: &str = "/components/inputs";

/// Replaces references to request schemas by references to the schemas of the document.
fn refer_to_schemas(mut value: Value, renamed: &HashMap<String, String>) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                let input = field
                    .as_str()
                    .and_then(|path| path.strip_prefix("#/components/inputs/"));
                *field = match (key.as_str(), input) {
                    ("$ref", Some(name)) => {
                        let name = renamed.get(name).map_or(name, String::as_str);
                        format!("#/components/schemas/{name}").into()
                    }
                    _ => refer_to_schemas(field.take(), renamed),
                };
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = refer_to_schemas(item.take(), renamed);
            }
        }
        _ => {}
    }
    value
}

/// Turns each property of an object schema into a parameter.
fn property_parameters(schema: &Value, place: &str) -> Vec<Value> {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = schema["properties"].as_object().into_iter().flatten();
    let parameter = |(name, schema): (&String, &Value)| {
        let mut schema = schema.clone();
        let description = schema
            .as_object_mut()
            .and_then(|schema| schema.remove("description"));
        remove_null(&mut schema);
        let mut parameter = json!({"name": name, "in": place, "required": required.contains(&name.as_str()),
               "description": description, "schema": schema});
        if place == "query" && name != "custom_participant_id" {
            // An empty value counts as absent.
            parameter["allowEmptyValue"] = true.into();
        }
        parameter
    };
    properties.map(parameter).collect()
}

/// Removes null from a parameter's schema: a parameter is absent rather than null.
fn remove_null(schema: &mut Value) {
    if let Some(types) = schema["type"].as_array() {
        let kept: Vec<Value> = types
            .iter()
            .filter(|kind| *kind != "null")
            .cloned()
            .collect();
        schema["type"] = if kept.len() == 1 {
            kept[0].clone()
        } else {
            kept.into()
        };
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let mut kept: Vec<Value> = choices
            .iter()
            .filter(|choice| choice["type"] != "null")
            .cloned()
            .collect();
        if kept.len() == 1 {
            *schema = kept.remove(0);
        }
    }
    if let Some(schema) = schema.as_object_mut() {
        schema.retain(|_, value| !value.is_null());
    }
}
