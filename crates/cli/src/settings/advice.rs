//! Which setting to look at when a server of others cannot be used.

use std::error::Error;

/// What to look at when the server of the settings that begin with `kind` could not be used for this reason.
pub(crate) fn advice(kind: &str, error: &(dyn Error + 'static)) -> Option<String> {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&error.to_string().to_lowercase());
        next = error.source();
    }
    let holds = |parts: &[&str]| parts.iter().any(|part| text.contains(part));
    if holds(&["certificate"]) {
        Some(format!(
            "{kind}_ca_file, or sslrootcert in its URL, names the authority to trust, and the URL the host that the \
             certificate is for"
        ))
    } else if holds(&[
        "password authentication",
        "authentication failed",
        "password missing",
        "pg_hba",
        "role \"",
    ]) {
        Some(format!("look at {kind}_user and {kind}_password, or at what its URL says instead"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn the_setting_is_named_that_a_refusal_is_about() {
        for (text, named) in [
            ("invalid peer certificate: UnknownIssuer", Some("directory_ca_file")),
            ("password authentication failed for user \"a\"", Some("directory_password")),
            ("role \"a\" does not exist", Some("directory_user")),
            ("connection refused", None),
            ("invalid port; one looks like postgres://user:password@host", None),
        ] {
            let told = advice("directory", &io::Error::other(text));
            match (&told, named) {
                (Some(told), Some(named)) => assert!(told.contains(named), "{told}"),
                (told, named) => assert_eq!(told.is_some(), named.is_some(), "{text}: {told:?}"),
            }
        }
    }
}
