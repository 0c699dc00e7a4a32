//! Where an inbox is: its name says so.

use bytestring::ByteString;
use switchboard_bus::percent;

/// The name of a process that others reach at this URL: `gateway-1@http://10.0.0.1:8183`.
#[must_use]
pub fn name_at(name: &str, url: &str) -> ByteString {
    format!("{name}@{}", url.trim_end_matches('/')).into()
}

/// Where to post what is for this inbox; none if its name does not say.
pub(crate) fn of_inbox(name: &str) -> Option<http::Uri> {
    let base = url_in(name)?.trim_end_matches('/');
    format!("{base}{INBOX_PATH}{}", percent::encode_token(name)).parse().ok()
}

/// What stands behind the last `@`, if that is a URL.
fn url_in(name: &str) -> Option<&str> {
    let (_, url) = name.rsplit_once('@')?;
    (url.starts_with("http://") || url.starts_with("https://")).then_some(url)
}

/// Where an inbox is posted to.
pub(crate) const INBOX_PATH: &str = "/gateway/v1/inbox/";
/// Where commands are posted to.
pub(crate) const COMMANDS_PATH: &str = "/gateway/v1/commands";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_its_inbox_is() {
        let name = name_at("gw 1", "http://10.0.0.1:8183/");
        assert_eq!(name, "gw 1@http://10.0.0.1:8183");
        let uri = of_inbox(&name).unwrap();
        assert_eq!(
            uri.to_string(),
            "http://10.0.0.1:8183/gateway/v1/inbox/gw%201%40http%3A%2F%2F10%2E0%2E0%2E1%3A8183"
        );
        assert_eq!(percent::decode_token(uri.path().strip_prefix(INBOX_PATH).unwrap()).unwrap(), name);
        let behind_a_path = of_inbox("central-of-w@https://lb.example/one").unwrap();
        assert_eq!(behind_a_path.host(), Some("lb.example"));
        assert!(behind_a_path.path().starts_with("/one/gateway/v1/inbox/central-of-w%40"), "{behind_a_path}");
        for none in ["", "gateway-1", "a@b", "a@ftp://b", "http://a"] {
            assert_eq!(of_inbox(none), None, "{none}");
        }
    }
}
