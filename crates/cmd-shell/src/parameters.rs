//! `--parameters` as the AWS CLI takes it: `KEY=VALUE`, several of them, or one JSON object.

use std::collections::BTreeMap;

/// Parameters of a session document; each is a list of texts, also where there is one.
pub(crate) type Parameters = BTreeMap<String, Vec<String>>;

/// Reads what was typed. A key given twice has both values, in order.
///
/// # Errors
/// Says which text is no parameter.
pub(crate) fn parse(words: &[String]) -> Result<Parameters, String> {
    let mut parameters = Parameters::new();
    for word in words {
        if word.trim_start().starts_with('{') {
            let object: BTreeMap<String, serde_json::Value> = serde_json::from_str(word)
                .map_err(|error| format!("`--parameters` is no JSON object: {error}"))?;
            for (key, value) in object {
                let values = texts(&key, value)?;
                parameters.entry(key).or_default().extend(values);
            }
            continue;
        }
        let (key, value) = word
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| format!("`{}` is no parameter; write KEY=VALUE", word.escape_debug()))?;
        // A value that is a JSON list of texts is that list; the AWS CLI reads it so.
        let values =
            serde_json::from_str::<Vec<String>>(value).unwrap_or_else(|_| vec![value.to_owned()]);
        parameters.entry(key.to_owned()).or_default().extend(values);
    }
    Ok(parameters)
}

fn texts(key: &str, value: serde_json::Value) -> Result<Vec<String>, String> {
    use serde_json::Value;
    let values = match value {
        Value::Array(values) => values,
        value => vec![value],
    };
    values
        .into_iter()
        .map(|value| match value {
            Value::String(text) => Ok(text),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(bool) => Ok(bool.to_string()),
            _ => Err(format!(
                "parameter `{key}` is neither a text nor a list of texts"
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_all(words: &[&str]) -> Result<Parameters, String> {
        parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn values_are_taken_as_they_are() {
        let parameters = parse_all(&["command=ls -l, a=b", "x=1", "x=2"]).expect("parameters");
        assert_eq!(parameters["command"], ["ls -l, a=b"]);
        assert_eq!(parameters["x"], ["1", "2"]);
    }

    #[test]
    fn json_is_read_as_the_aws_cli_reads_it() {
        let parameters =
            parse_all(&[r#"{"command":["ls","-l"],"n":3}"#, r#"y=["a","b"]"#]).expect("parameters");
        assert_eq!(parameters["command"], ["ls", "-l"]);
        assert_eq!(parameters["n"], ["3"]);
        assert_eq!(parameters["y"], ["a", "b"]);
    }

    #[test]
    fn what_is_no_parameter_is_named() {
        for bad in ["web-1", "=x", "{\"a\":{}}", "{"] {
            assert!(parse_all(&[bad]).is_err(), "{bad}");
        }
    }
}
