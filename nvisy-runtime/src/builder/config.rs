//! Configs as a graph writes them: without what is the default anyway.

use nvisy_core::config::Config;
use serde_json::{Map, Value};

/// Writes a config with as few fields as read back to the same.
///
/// What one chains in Rust then equals what one writes by hand, whether or not its type leaves
/// out defaults itself.
pub(super) fn minimal<C: Config>(config: &C) -> Result<Value, String> {
    let whole = serde_json::to_value(config).map_err(|error| error.to_string())?;
    let mut least = match &whole {
        Value::Object(fields) => fields.clone(),
        Value::Null => return Ok(Value::Object(Map::new())),
        _ => return Err("it is no object".to_owned()),
    };
    let names: Vec<String> = least.keys().cloned().collect();
    for name in names {
        let Some(field) = least.remove(&name) else { continue };
        let again = serde_json::from_value::<C>(Value::Object(least.clone())).ok();
        let same =
            again.and_then(|config| serde_json::to_value(config).ok()).is_some_and(|again| again == whole);
        if !same {
            least.insert(name, field);
        }
    }
    Ok(Value::Object(least))
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Clone, Debug, Deserialize, JsonSchema, Serialize)]
    struct Sample {
        bucket: String,
        #[serde(default = "ten")]
        size: u32,
        region: Option<String>,
    }

    fn ten() -> u32 {
        10
    }

    fn check(size: u32, region: Option<&str>, expected: &Value) {
        let sample = Sample { bucket: "acme".to_owned(), size, region: region.map(str::to_owned) };
        assert_eq!(minimal(&sample).as_ref(), Ok(expected));
    }

    #[test]
    fn defaults_are_left_out() {
        check(10, None, &json!({ "bucket": "acme" }));
        check(11, Some("eu"), &json!({ "bucket": "acme", "size": 11, "region": "eu" }));
    }
}
