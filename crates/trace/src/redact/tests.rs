//! What is hidden, what stays to be read, and what becomes of text that is no JSON.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

const KEY: [u8; 32] = [7; 32];

fn redactor() -> Redactor {
    Redactor::new(KEY)
}

fn shown(text: &str, action: Option<&str>, personal: bool) -> String {
    redactor().redact(text, action, personal).map_or_else(|_| "no JSON".to_owned(), Cow::into_owned)
}

/// What is expected, with the digest of the tag in its place.
fn with_digest(expected: &str, value: &str) -> String {
    expected.replace("DIGEST", &redactor().digest(value))
}

#[test]
fn what_is_personal_or_secret_is_taken_out_and_nothing_else() {
    for (name, frame, expected) in [
        ("a tag", r#"[2,"1","Authorize",{"idTag":"A1"}]"#, r#"[2,"1","Authorize",{"idTag":"DIGEST"}]"#),
        (
            "a token keeps its type",
            r#"{"idToken":{"idToken":"A1","type":"ISO14443","additionalInfo":[{"additionalIdToken":"A1","type":"x"}]}}"#,
            r#"{"idToken":{"idToken":"DIGEST","type":"ISO14443","additionalInfo":[{"additionalIdToken":"DIGEST","type":"x"}]}}"#,
        ),
        (
            "a parent, with white space",
            "{\"idTagInfo\" : {\"parentIdTag\" :\n \"A1\", \"status\":\"Accepted\"}}",
            "{\"idTagInfo\" : {\"parentIdTag\" :\n \"DIGEST\", \"status\":\"Accepted\"}}",
        ),
        ("a tag that is a number", r#"{"idTag":1234}"#, r#"{"idTag":"…"}"#),
        ("a tag in a list", r#"{"idTokens":["A1","A1"]}"#, r#"{"idTokens":["DIGEST","DIGEST"]}"#),
        (
            "a password of 1.6, before and after its key",
            r#"[{"key":"AuthorizationKey","value":"00ff"},{"value":"00ff","key":"AuthorizationKey"},{"key":"HeartbeatInterval","value":"300"}]"#,
            r#"[{"key":"AuthorizationKey","value":"…"},{"value":"…","key":"AuthorizationKey"},{"key":"HeartbeatInterval","value":"300"}]"#,
        ),
        (
            "a password of 2.x",
            r#"{"setVariableData":[{"attributeValue":"pw","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}"#,
            r#"{"setVariableData":[{"attributeValue":"…","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}"#,
        ),
        (
            "a password in a report",
            r#"{"reportData":[{"variable":{"name":"BasicAuthPassword"},"variableAttribute":[{"type":"Actual","value":"pw"}]}]}"#,
            r#"{"reportData":[{"variable":{"name":"BasicAuthPassword"},"variableAttribute":"…"}]}"#,
        ),
        (
            "a setting of a vendor",
            r#"{"key":"WiFi-Password_2","value":"x"}"#,
            r#"{"key":"WiFi-Password_2","value":"…"}"#,
        ),
        (
            "a setting with a tag",
            r#"{"key":"FreeModeIdTag","value":"A1"}"#,
            r#"{"key":"FreeModeIdTag","value":"DIGEST"}"#,
        ),
        (
            "pings are no pins",
            r#"{"key":"WebSocketPingInterval","value":"5"}"#,
            r#"{"key":"WebSocketPingInterval","value":"5"}"#,
        ),
        (
            "a VPN",
            r#"{"vpn":{"key":"k","password":"p","user":"u","group":"g","server":"s"}}"#,
            r#"{"vpn":{"key":"…","password":"…","user":"…","group":"g","server":"s"}}"#,
        ),
        (
            "a URL with a password",
            r#"{"location":"ftp://user:pass@host/x"}"#,
            r#"{"location":"ftp://…@host/x"}"#,
        ),
        (
            "a URL with escaped slashes",
            r#"{"location":"ftp:\/\/user:pass@host\/x"}"#,
            r#"{"location":"ftp://…@host/x"}"#,
        ),
        (
            "a URL with a signature, another with a password with a slash",
            r#"["https://host/x?sig=1","ftp://u:p/w@host/x?y","u:p@host"]"#,
            r#"["https://host/x?…","ftp://…@host/x?…","…@host"]"#,
        ),
        ("a plain URL", r#"["https://host/x","a@b","12:30"]"#, r#"["https://host/x","a@b","12:30"]"#),
        (
            "a signed reading",
            r#"{"sampledValue":[{"value":"OCMF|{}","format":"SignedData"},{"value":"1","format":"Raw"}]}"#,
            r#"{"sampledValue":[{"value":"SIGNED","format":"SignedData"},{"value":"1","format":"Raw"}]}"#,
        ),
        (
            "data of a vendor",
            r#"{"customData":{"vendorId":"v","plate":"A1","n":[{"x":"A1"}]}}"#,
            r#"{"customData":{"vendorId":"v","plate":"DIGEST","n":[{"x":"DIGEST"}]}}"#,
        ),
        (
            "numbers keep their digits and members their order",
            r#"{"b":1.10,"a":12345678901234567890,"idTag":"A1","c":"A"}"#,
            r#"{"b":1.10,"a":12345678901234567890,"idTag":"DIGEST","c":"A"}"#,
        ),
        (
            "escaped quotation marks",
            r#"{"idTag":"\u00411","c":"\"idTag\":\"x\""}"#,
            r#"{"idTag":"DIGEST","c":"\"idTag\":\"x\""}"#,
        ),
        ("another spelling", r#"{"IDTAG":"A1"}"#, r#"{"IDTAG":"DIGEST"}"#),
        ("an escaped name", r#"{"id\u0054ag":"A1"}"#, r#"{"id\u0054ag":"DIGEST"}"#),
        ("nothing personal", r#"[2,"1","Heartbeat",{}]"#, r#"[2,"1","Heartbeat",{}]"#),
        ("nothing in it", r#"{"idTag":"","parentIdTag":null}"#, r#"{"idTag":"","parentIdTag":null}"#),
        ("no JSON", r#"[2,"1","X",{"idTag":"A1"#, "no JSON"),
    ] {
        let expected = match name {
            "a tag that is a number" => expected.replace('…', &redactor().digest("1234")),
            "a signed reading" => expected.replace("SIGNED", &redactor().digest("OCMF|{}")),
            _ => with_digest(expected, "A1"),
        };
        assert_eq!(shown(frame, None, false), expected, "{name}");
    }
}

#[test]
fn what_only_the_action_tells_apart() {
    for (action, expected) in [
        ("DataTransfer", r#"{"data":"DIGEST"}"#),
        ("NotifyCustomerInformation", r#"{"data":"DIGEST"}"#),
        ("NotifyPeriodicEventStream", r#"{"data":"A1"}"#),
    ] {
        assert_eq!(shown(r#"{"data":"A1"}"#, Some(action), false), with_digest(expected, "A1"), "{action}");
    }
}

#[test]
fn who_may_see_personal_data_still_sees_no_secret() {
    let frame = r#"{"idTag":"A1","password":"p","key":"AuthorizationKey","value":"v","url":"ftp://u:p@h/"}"#;
    let expected = r#"{"idTag":"A1","password":"…","key":"AuthorizationKey","value":"…","url":"ftp://…@h/"}"#;
    assert_eq!(shown(frame, None, true), expected);
    assert_eq!(
        Redactor::broken(r#"[2,"1","Authorize",{"idTag":"A1"#),
        Some(r#"[2,"1","Authorize",{"idTag":"A1"#)
    );
    assert_eq!(Redactor::broken(r#"{"basicAuthPassword":"x"#), None);
    assert_eq!(Redactor::broken(r#"{"\u0070assword":"x"#), None);
}

#[test]
fn equal_tags_have_equal_digests_and_another_key_makes_others() {
    assert_eq!(redactor().digest("A1"), redactor().digest("A1"));
    assert_ne!(redactor().digest("A1"), redactor().digest("A2"));
    assert_ne!(redactor().digest("A1"), Redactor::random().digest("A1"));
}

/// JSON as stations might write it, with the sentinel in the places that must not be shown.
fn planted() -> impl Strategy<Value = Value> {
    const SENTINEL: &str = "SENTINEL77";
    let secret = prop_oneof![
        Just("idTag"),
        Just("parentIdTag"),
        Just("idToken"),
        Just("additionalIdToken"),
        Just("password"),
        Just("basicAuthPassword"),
        Just("customerIdentifier"),
        Just("exiRequest"),
        Just("personalMessage"),
        Just("customData"),
        Just("data"),
        Just("vatNumber"),
    ];
    let holder = secret.prop_flat_map(|name| {
        prop_oneof![
            Just(json!({ name: SENTINEL })),
            Just(json!({ name: [SENTINEL, 1] })),
            Just(json!({ name: { "deeper": { "x": [SENTINEL] } } })),
            Just(json!({ "key": "AuthorizationKey", "value": SENTINEL })),
            Just(json!({ "attributeValue": SENTINEL, "variable": { "name": "BasicAuthPassword" } })),
            Just(json!({ "location": format!("sftp://{SENTINEL}:{SENTINEL}@host/path") })),
            Just(json!({ "location": format!("https://host/path?X-Amz-Signature={SENTINEL}") })),
        ]
    });
    let plain = prop_oneof![
        Just(Value::Null),
        Just(json!(1.5)),
        "[a-zA-Z\\\\\"\u{e4}{}\\[\\]:,]{0,8}".prop_map(Value::from)
    ];
    let leaf = prop_oneof![holder, plain];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map("[a-z\\\\\"]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// The text with some of its characters written as escapes, and white space between its parts.
fn disguised(json: &Value, seed: u8) -> String {
    let text = if seed.is_multiple_of(2) { json.to_string() } else { format!("{json:#}") };
    let mut out = String::new();
    let mut within = false;
    let mut escaped = false;
    for (index, character) in text.chars().enumerate() {
        let plain = within && !escaped && character.is_ascii_alphanumeric();
        if plain && seed > 100 && index % usize::from(seed % 7 + 2) == 0 {
            out.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            out.push(character);
        }
        if escaped {
            escaped = false;
        } else if within && character == '\\' {
            escaped = true;
        } else if character == '"' {
            within = !within;
        }
    }
    out
}

proptest! {
    #[test]
    fn nothing_that_is_planted_leaks(json in planted(), seed: u8) {
        let text = disguised(&json, seed);
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read, &json);
        let shown = redactor().redact(&text, None, false).unwrap();
        let back: Value = serde_json::from_str(&shown).unwrap();
        prop_assert!(!back.to_string().contains("SENTINEL"), "{shown}");
    }

    #[test]
    fn what_is_cut_or_changed_leaks_nothing_either(json in planted(), at: prop::sample::Index, byte in 0x20_u8..0x7f) {
        let text = json.to_string();
        let mut at = at.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        // Cut short, or with one byte too many: most of these are no JSON, and then nothing is shown.
        for broken in [text[..at].to_owned(), format!("{}{}{}", &text[..at], char::from(byte), &text[at..])] {
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&broken).is_ok();
            prop_assert_eq!(redactor().redact(&broken, None, false).is_ok(), is_json, "{}", broken);
        }
    }

    #[test]
    fn exactly_json_is_read(text in "[\\[\\]{}:,\"\\\\0-9a-u.eE+\\- \n-]{0,24}") {
        let is_json = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        prop_assert_eq!(redactor().redact(&text, None, false).is_ok(), is_json, "{}", text);
    }
}
