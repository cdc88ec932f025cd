//! Fields for which `null` means absent. `null` is accepted but never written.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

/// Deserializes `null` as the type's default.
///
/// For use as `#[serde(deserialize_with = "null_is_default")]`.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Schema of such a field: nullable in requests, but not in responses.
///
/// For use as `#[schemars(schema_with = "nullable_in::<T>")]`.
pub(crate) fn nullable_in<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    if generator.contract().is_deserialize() {
        Option::<T>::json_schema(generator)
    } else {
        T::json_schema(generator)
    }
}
