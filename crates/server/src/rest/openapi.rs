//! The API description, OpenAPI 3.1, generated from the operations' own types.
//!
//! What goes in and what comes out are described apart, because a default makes a field optional
//! on the way in and certain on the way out.

use std::collections::HashMap;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::operations::{self, OPERATIONS, Operation};
use crate::http::endpoint::{Endpoint, Surface};
use crate::http::error::ErrorBody;
use crate::http::idempotency::KEY_MAX;
use crate::limits::Limits;

/// The whole document, for a server with these limits.
pub fn document(limits: &Limits) -> Value {
    let mut shapes = Describer::new();
    let mut paths = Map::new();
    for endpoint in super::endpoints() {
        for (surface, path) in endpoint.mounts() {
            let operation = shapes.operation(&endpoint, surface, &path);
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
    let (schemas, renamed) = shapes.schemas();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Parlor",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Meetings as a service that anybody can run. The operations are those of Cloudflare \
                RealtimeKit's REST API, on the same paths; what goes beyond it says so.",
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
                "email": {"type": "apiKey", "in": "header", "name": "X-Auth-Email", "description": "Anything, with a key."},
                "key": {"type": "apiKey", "in": "header", "name": "X-Auth-Key", "description": "An API token."},
                "app": {"type": "http", "scheme": "basic", "description": "The app's id and an API token that reaches it."},
            },
        },
    });
    let mut document = refer_to_schemas(document, &renamed);
    let schemas = document["components"]["schemas"].as_object_mut();
    for (_, schema) in schemas.into_iter().flatten() {
        if let Some(life) = schema.pointer_mut("/properties/expires_in") {
            life["maximum"] = limits.token_life_max_secs.into();
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

/// The tag of an operation: RealtimeKit's, or that of what its path is about.
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

/// The parameters that come before an operation's own.
fn place_parameters(path: &str) -> Vec<Value> {
    let known = [
        (
            "account_id",
            "The account: 32 hex digits.",
            "^[0-9a-fA-F]{32}$",
        ),
        (
            "app_id",
            "The app: 32 hex digits, or the same id as a UUID.",
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
    let mut parameters = place_parameters(path);
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
        "description": "Not in this version: answers 501.",
        "x-parlor-status": "planned",
        "security": security(surface),
        "parameters": parameters,
        "responses": {"501": {"$ref": "#/components/responses/501"}},
    })
}

const ERRORS: [(u16, &str); 13] = [
    (
        400,
        "Something is wrong with the request; `errors[].source.pointer` says where in the body.",
    ),
    (401, "No credentials, or wrong ones."),
    (403, "The API token does not reach this far."),
    (404, "Something that the request names does not exist."),
    (405, "The path does not know this method."),
    (408, "The body did not arrive in time."),
    (409, "It exists already. `x-should-retry` is `false`."),
    (413, "The body is too large."),
    (422, "The `Idempotency-Key` was used with another request."),
    (
        429,
        "Too many requests; `retry-after` says how long to wait.",
    ),
    (
        500,
        "An error of the server; the log has its cause under the request id.",
    ),
    (501, "The operation is not in this version."),
    (
        503,
        "The database is away or the server is stopping; try again.",
    ),
];

fn errors() -> Value {
    let body = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}});
    let described = ERRORS.map(|(status, description)| {
        let mut response = json!({"description": description, "content": body});
        if matches!(status, 429 | 503) {
            let seconds = json!({"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}});
            response["headers"] = json!({"retry-after": seconds});
        }
        (status.to_string(), response)
    });
    described.into_iter().collect::<Map<_, _>>().into()
}

/// The two generators.
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
        let input = settings("/components/schemas")
            .for_deserialize()
            .into_generator();
        let mut output = settings(REPLIES).for_serialize().into_generator();
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
            let schema: Value = (endpoint.shapes.body)(&mut self.input).into();
            let required = self.needs_fields(&schema);
            operation["requestBody"] =
                json!({"required": required, "content": {"application/json": {"schema": schema}}});
        }
        operation
    }

    /// Whether an absent body, which is read as an empty object, lacks something.
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
        let mut parameters = place_parameters(path);
        let own: Value = (endpoint.shapes.path)(&mut self.input).into();
        parameters.extend(each_property(&own, "path"));
        let query: Value = (endpoint.shapes.query)(&mut self.input).into();
        parameters.extend(each_property(&query, "query"));
        let mut headers = endpoint.headers.to_vec();
        if endpoint.method == http::Method::POST {
            headers.push((
                "Idempotency-Key",
                "The same key within 24 hours gives the first answer again.",
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
        let schema: Value = (endpoint.shapes.reply)(&mut self.output).into();
        let success =
            json!({"description": "Done.", "content": {"application/json": {"schema": schema}}});
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

    /// All definitions, and the new names of those replies that differ from what goes in under
    /// the same name.
    fn schemas(mut self) -> (Map<String, Value>, HashMap<String, String>) {
        let mut schemas = self.input.take_definitions(true);
        let replies = self.output.take_definitions(true);
        let mut renamed = HashMap::new();
        // A schema also differs when something that it refers to does, however deep.
        loop {
            let differs = |(name, reply): &(&String, &Value)| {
                let same = |input: &Value| *input == refer_to_schemas((*reply).clone(), &renamed);
                !renamed.contains_key(*name) && schemas.get(*name).is_some_and(|input| !same(input))
            };
            let found: Vec<String> = replies
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
                    .map(|name| (name.clone(), format!("{name}Reply"))),
            );
        }
        for (name, reply) in replies {
            let name = renamed.get(&name).cloned().unwrap_or(name);
            schemas.insert(name, reply);
        }
        (schemas, renamed)
    }
}

/// Where the definitions of replies are referred to, until it is known what they are called.
const REPLIES: &str = "/components/replies";

/// Turns references to replies into references to schemas.
fn refer_to_schemas(mut value: Value, renamed: &HashMap<String, String>) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for (key, field) in fields.iter_mut() {
                let reply = field
                    .as_str()
                    .and_then(|path| path.strip_prefix("#/components/replies/"));
                *field = match (key.as_str(), reply) {
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

/// Each property of an object schema as a parameter.
fn each_property(schema: &Value, place: &str) -> Vec<Value> {
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
        without_null(&mut schema);
        let mut parameter = json!({"name": name, "in": place, "required": required.contains(&name.as_str()),
               "description": description, "schema": schema});
        if place == "query" && name != "custom_participant_id" {
            // An empty value counts as an absent one.
            parameter["allowEmptyValue"] = true.into();
        }
        parameter
    };
    properties.map(parameter).collect()
}

/// A parameter is absent rather than null.
fn without_null(schema: &mut Value) {
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
