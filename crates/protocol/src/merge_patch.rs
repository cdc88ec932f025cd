//! JSON Merge Patch (RFC 7396), used for every PATCH body.

use serde_json::{Map, Value};

/// Applies `patch` to `target` as specified in RFC 7396 section 2: members of an object are merged
/// one by one, `null` removes a member, and any other value replaces the target.
///
/// ```
/// # use serde_json::json;
/// let mut target = json!({"a": {"b": 1, "c": 2}, "d": [3]});
/// parlor_protocol::merge_patch(&mut target, json!({"a": {"b": null}, "d": [4]}));
/// assert_eq!(target, json!({"a": {"c": 2}, "d": [4]}));
/// ```
pub fn merge_patch(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(members), Value::Object(patch)) => merge_members(members, patch),
        (target, Value::Object(patch)) => {
            let mut members = Map::new();
            merge_members(&mut members, patch);
            *target = Value::Object(members);
        }
        (target, patch) => *target = patch,
    }
}

fn merge_members(members: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (name, change) in patch {
        if change.is_null() {
            members.remove(&name);
        } else {
            merge_patch(members.entry(name).or_insert(Value::Null), change);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_rfc_7396_appendix_a_hold() {
        for (mut target, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": "b"}),
                json!({"b": "c"}),
                json!({"a": "b", "b": "c"}),
            ),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (
                json!({"a": "b", "b": "c"}),
                json!({"a": null}),
                json!({"b": "c"}),
            ),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (
                json!({"a": [{"b": "c"}]}),
                json!({"a": [1]}),
                json!({"a": [1]}),
            ),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (
                json!({"e": null}),
                json!({"a": 1}),
                json!({"e": null, "a": 1}),
            ),
            (
                json!([1, 2]),
                json!({"a": "b", "c": null}),
                json!({"a": "b"}),
            ),
            (
                json!({}),
                json!({"a": {"bb": {"ccc": null}}}),
                json!({"a": {"bb": {}}}),
            ),
        ] {
            let before = target.clone();
            merge_patch(&mut target, patch.clone());
            assert_eq!(target, result, "{before} changed by {patch}");
        }
    }
}
