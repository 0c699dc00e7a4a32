//! Takes personal data and secrets out of frames before they are shown, and leaves everything else as it is.

use std::borrow::Cow;

/// Members whose text says who a driver is, in any version.
const PERSONAL: &[&str] = &[
    "idTag",
    "parentIdTag",
    "idToken",
    "additionalIdToken",
    "masterPassGroupId",
    "customerIdentifier",
    "eMAID",
    "emaid",
    "evccId",
    "vatNumber",
];

/// Members whose text is a secret.
const SECRET: &[&str] = &["password", "apnPassword", "simPin", "apnUserName", "user", "basicAuthPassword"];

/// Words that make the values beside them secrets: a configuration key and a variable.
const SECRET_BESIDE: &[&str] = &["AuthorizationKey", "BasicAuthPassword"];

/// What stands in the place of what was taken out.
const GONE: &str = "\"…\"";

/// The frame without secrets and, unless `personal`, without personal data.
///
/// Of text that is no JSON only the length is told, since nobody knows what is in it.
pub(crate) fn redact(text: &str, personal: bool) -> Cow<'_, str> {
    if !personal && serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return Cow::Owned(format!("(no JSON, {} bytes)", text.len()));
    }
    let folded = text.to_ascii_lowercase();
    let beside = SECRET_BESIDE.iter().any(|word| folded.contains(&word.to_ascii_lowercase()));
    let vpn = folded.contains("\"vpn\"");
    let told = folded.contains("notifycustomerinformation");
    let is_gone = |name: &str| {
        let among = |names: &[&str]| names.iter().any(|one| one.eq_ignore_ascii_case(name));
        among(SECRET)
            || beside && among(&["value", "attributeValue"])
            || vpn && among(&["key"])
            || !personal && (among(PERSONAL) || told && among(&["data"]))
    };
    let mut out = String::new();
    let mut copied = 0;
    let mut name: Option<&str> = None;
    for (start, end) in (Strings { text, at: 0 }) {
        let inner = &text[start + 1..end - 1];
        let rest = text[end..].trim_start();
        if rest.starts_with(':') {
            name = Some(inner);
            continue;
        }
        let of = text[..start].trim_end().ends_with(':').then_some(name).flatten();
        // A text within an array belongs to the array's name: values of a list are as personal as a single one.
        let gone = of.or_else(|| name.filter(|_| in_array(&text[..start]))).is_some_and(is_gone);
        let replacement: Option<Cow<'_, str>> = if gone && !inner.is_empty() {
            Some(Cow::Borrowed(GONE))
        } else {
            without_user(inner).map(|url| Cow::Owned(format!("\"{url}\"")))
        };
        if let Some(replacement) = replacement {
            out.push_str(&text[copied..start]);
            out.push_str(&replacement);
            copied = end;
        }
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    Cow::Owned(out)
}

/// Whether what follows is an element of an array, not a member's value.
fn in_array(before: &str) -> bool {
    matches!(before.trim_end().as_bytes().last(), Some(b'[' | b','))
}

/// A URL without the user and password in it; none if there are none.
fn without_user(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let at = authority.rfind('@')?;
    Some(format!("{scheme}://…@{}", &rest[at + 1..]))
}

/// The places of all JSON strings of a text, with their quotation marks.
struct Strings<'a> {
    text: &'a str,
    at: usize,
}

impl Iterator for Strings<'_> {
    type Item = (usize, usize);

    fn next(&mut self) -> Option<(usize, usize)> {
        let bytes = self.text.as_bytes();
        let start = self.at + bytes.get(self.at..)?.iter().position(|byte| *byte == b'"')?;
        let mut end = start + 1;
        loop {
            match bytes.get(end)? {
                b'\\' => end += 2,
                b'"' => break,
                _ => end += 1,
            }
        }
        self.at = end + 1;
        Some((start, end + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_personal_or_secret_is_taken_out_and_nothing_else() {
        for (name, frame, shown) in [
            ("a tag", r#"[2,"1","Authorize",{"idTag":"A1"}]"#, r#"[2,"1","Authorize",{"idTag":"…"}]"#),
            (
                "a token keeps its type",
                r#"[2,"1","Authorize",{"idToken":{"idToken":"A1","type":"ISO14443"}}]"#,
                r#"[2,"1","Authorize",{"idToken":{"idToken":"…","type":"ISO14443"}}]"#,
            ),
            (
                "a parent, with white space",
                "[3,\"1\",{\"idTagInfo\" : {\"parentIdTag\" :\n \"P1\", \"status\":\"Accepted\"}}]",
                "[3,\"1\",{\"idTagInfo\" : {\"parentIdTag\" :\n \"…\", \"status\":\"Accepted\"}}]",
            ),
            (
                "a password of 1.6",
                r#"[2,"1","ChangeConfiguration",{"key":"AuthorizationKey","value":"00ff"}]"#,
                r#"[2,"1","ChangeConfiguration",{"key":"AuthorizationKey","value":"…"}]"#,
            ),
            (
                "a password of 2.0.1",
                r#"[2,"1","SetVariables",{"setVariableData":[{"attributeValue":"pw","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}]"#,
                r#"[2,"1","SetVariables",{"setVariableData":[{"attributeValue":"…","component":{"name":"SecurityCtrlr"},"variable":{"name":"BasicAuthPassword"}}]}]"#,
            ),
            (
                "a URL with a password",
                r#"[2,"1","GetDiagnostics",{"location":"ftp://user:pass@host/x"}]"#,
                r#"[2,"1","GetDiagnostics",{"location":"ftp://…@host/x"}]"#,
            ),
            (
                "a customer",
                r#"[2,"1","NotifyCustomerInformation",{"data":"Jane","seqNo":0}]"#,
                r#"[2,"1","NotifyCustomerInformation",{"data":"…","seqNo":0}]"#,
            ),
            (
                "numbers keep their digits and members their order",
                r#"[2,"1","X",{"b":1.10,"a":12345678901234567890,"idTag":"A","c":"A"}]"#,
                r#"[2,"1","X",{"b":1.10,"a":12345678901234567890,"idTag":"…","c":"A"}]"#,
            ),
            (
                "escaped quotation marks",
                r#"[2,"1","X",{"idTag":"A\"1\\","c":"\"idTag\":\"x\""}]"#,
                r#"[2,"1","X",{"idTag":"…","c":"\"idTag\":\"x\""}]"#,
            ),
            ("another spelling", r#"{"IDTAG":"A1"}"#, r#"{"IDTAG":"…"}"#),
            ("nothing personal", r#"[2,"1","Heartbeat",{}]"#, r#"[2,"1","Heartbeat",{}]"#),
            ("no JSON", r#"[2,"1","X",{"idTag":"A"#, "(no JSON, 22 bytes)"),
        ] {
            assert_eq!(redact(frame, false), shown, "{name}");
        }
    }

    #[test]
    fn who_may_see_personal_data_still_sees_no_secret() {
        let frame = r#"[2,"1","X",{"idTag":"A1","password":"p","key":"AuthorizationKey","value":"v"}]"#;
        assert_eq!(
            redact(frame, true),
            r#"[2,"1","X",{"idTag":"A1","password":"…","key":"AuthorizationKey","value":"…"}]"#
        );
    }
}
