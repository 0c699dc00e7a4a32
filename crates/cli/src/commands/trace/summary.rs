//! JSON for eyes: one short line, or all of it over several.

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{borrow::Cow, fmt};

/// The members of an object in their order, as they are written.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry::<Name<'de>, &'de RawValue>()? {
                    members.push((member.0.0, member.1));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A name, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of an object as `name=value`, those of objects in it as `outer.inner=value`; of arrays how much is in
/// them. Empty for an empty object.
pub(super) fn summary(json: &str) -> String {
    let mut parts = Vec::new();
    collect("", json, 0, &mut parts);
    parts.join(" ")
}

fn collect(path: &str, json: &str, depth: u32, parts: &mut Vec<String>) {
    if depth < DEPTH_MAX
        && let Ok(Members(members)) = serde_json::from_str(json)
    {
        if members.is_empty() && !path.is_empty() {
            parts.push(format!("{path}={{}}"));
        }
        for (name, value) in members {
            let path = if path.is_empty() { name.into_owned() } else { format!("{path}.{name}") };
            collect(&path, value.get(), depth + 1, parts);
        }
        return;
    }
    let value = match json.as_bytes().first() {
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(json) {
            Ok(elements) if elements.len() == 1 && depth < DEPTH_MAX => {
                return collect(&format!("{path}[0]"), elements[0].get(), depth + 1, parts);
            }
            Ok(elements) => format!("[{}]", elements.len()),
            Err(_) => "[…]".to_owned(),
        },
        Some(b'{') => "{…}".to_owned(),
        Some(b'"') => match serde_json::from_str::<String>(json) {
            Ok(text) if !text.is_empty() && !text.contains([' ', '=', '"']) => text,
            _ => json.to_owned(),
        },
        _ => json.to_owned(),
    };
    parts.push(if path.is_empty() { value } else { format!("{path}={value}") });
}

/// JSON over several lines, its order, digits and escapes as they are.
pub(super) fn pretty(json: &str, indent: &str) -> String {
    let mut out = indent.to_owned();
    let mut level = 0_usize;
    let mut within = false;
    let mut escaped = false;
    let mut characters = json.chars().filter(|character| !character.is_control()).peekable();
    let line = |out: &mut String, level: usize| {
        out.push('\n');
        out.push_str(indent);
        out.push_str(&"  ".repeat(level));
    };
    while let Some(character) = characters.next() {
        if within {
            out.push(character);
            within = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        match character {
            ' ' => {}
            '"' => {
                within = true;
                out.push(character);
            }
            '{' | '[' => {
                out.push(character);
                while characters.next_if_eq(&' ').is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    level += 1;
                    line(&mut out, level);
                }
            }
            '}' | ']' => {
                level = level.saturating_sub(1);
                line(&mut out, level);
                out.push(character);
            }
            ',' => {
                out.push(character);
                line(&mut out, level);
            }
            ':' => out.push_str(": "),
            other => out.push(other),
        }
    }
    out
}

/// Objects deeper than this are not looked into.
const DEPTH_MAX: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_keeps_the_order_and_the_digits() {
        for (json, expected) in [
            ("{}", ""),
            (r#"{"b":1.10,"a":"x y","c":"z","d":null,"e":""}"#, r#"b=1.10 a="x y" c=z d=null e="""#),
            (
                r#"{"idTagInfo":{"status":"Accepted"},"transactionId":7}"#,
                "idTagInfo.status=Accepted transactionId=7",
            ),
            (
                r#"{"list":[1,2,3],"one":[{"a":1}],"none":[],"empty":{}}"#,
                "list=[3] one[0].a=1 none=[0] empty={}",
            ),
            (r#""(no JSON, 5 bytes)""#, r#""(no JSON, 5 bytes)""#),
            (r#"{"a":{"b":{"c":{"d":{"e":1}}}}}"#, "a.b.c.d={…}"),
            (r#"{"a\"b":1}"#, "a\"b=1"),
        ] {
            assert_eq!(summary(json), expected, "{json}");
        }
    }

    #[test]
    fn all_of_it_is_indented_and_stays_the_same_json() {
        let json = r#"{"a":[1.10,{"b":"x\"{,:"}],"c":{},"d":[ ]}"#;
        let expected = "  {\n    \"a\": [\n      1.10,\n      {\n        \"b\": \"x\\\"{,:\"\n      }\n    ],\n    \"c\": {},\n    \"d\": []\n  }";
        assert_eq!(pretty(json, "  "), expected);
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(json), value(&pretty(json, "  ")));
    }
}
