//! Shows the settings: the reference for `docs/configuration.md`, and what is in effect.

use super::{Resolved, Settings, TABLE};

/// The reference of all settings as Markdown.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         <!-- Written by `switchboard check-config --print-reference` from the table of settings; a test compares. -->\n\n\
         Every setting can be given in three places; a later one wins: the file (`switchboard.toml`, or what `--config` or \
         `SWITCHBOARD_CONFIG` names), the environment, a flag of `switchboard run`. `switchboard check-config` shows what is in \
         effect and where it came from; it names everything that is wrong at once and exits with 64.\n\n\
         Durations are texts with units: `500ms`, `30s`, `1m30s`, `2h`, `1d`.\n",
    );
    let mut section = None;
    for setting in TABLE {
        let of = setting.path.rsplit_once('.').map(|(section, _)| section);
        if section != Some(of) {
            section = Some(of);
            let heading = of.map_or_else(|| "General".to_owned(), |section| format!("`[{section}]`"));
            text.push_str(&format!("\n## {heading}\n"));
        }
        let default = (setting.show)(&Settings::default())
            .map_or_else(|| "not set".to_owned(), |shown| format!("`{shown}`"));
        text.push_str(&format!(
            "\n### `{}`\n\n{}\n\n- Expected: {}\n- Default: {default}\n- Variable: `{}`, flag: `--{}`\n",
            setting.path,
            setting.help,
            (setting.expected)(),
            setting.variable(),
            setting.flag(),
        ));
    }
    text
}

/// What is in effect, as a TOML file with the origin of each value beside it.
pub(crate) fn effective_toml(resolved: &Resolved) -> String {
    let mut text = String::new();
    let mut section = None;
    for setting in TABLE {
        let (of, key) =
            setting.path.rsplit_once('.').map_or((None, setting.path), |(of, key)| (Some(of), key));
        if section != of {
            section = of;
            if let Some(of) = of {
                text.push_str(&format!("\n[{of}]\n"));
            }
        }
        text.push_str(&match (setting.show)(&resolved.settings) {
            Some(_) if setting.secret => {
                format!("# {key} is set and not shown  # {}\n", resolved.origin(setting))
            }
            Some(shown) => format!("{key} = {shown}  # {}\n", resolved.origin(setting)),
            None => format!("# {key} is not set\n"),
        });
    }
    text
}

/// What is in effect, as JSON: path to value and origin.
pub(crate) fn effective_json(resolved: &Resolved) -> serde_json::Value {
    let entries = TABLE.iter().map(|setting| {
        let value = (setting.show)(&resolved.settings)
            .and_then(|shown| toml::from_str::<toml::Table>(&format!("value = {shown}")).ok())
            .and_then(|mut table| table.remove("value"))
            .and_then(|value| serde_json::to_value(value).ok());
        let entry = serde_json::json!({ "value": value, "source": resolved.origin(setting).to_string() });
        (setting.path.to_owned(), entry)
    });
    serde_json::Value::Object(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Sources, resolve};

    #[test]
    fn the_document_is_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
        let document = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            document == reference(),
            "docs/configuration.md differs; write it with: switchboard check-config --print-reference > docs/configuration.md"
        );
    }

    #[test]
    fn what_is_shown_can_be_used_as_the_file() {
        let given = Sources {
            flags: vec![("demo", "7".to_owned()), ("api.listen", "[::1]:9".to_owned())],
            ..Sources::default()
        };
        let shown = effective_toml(&resolve(&given).unwrap());
        let again = resolve(&Sources { file: Some(("x".to_owned(), shown)), ..Sources::default() }).unwrap();
        assert_eq!((again.settings.demo, again.settings.api_listen.to_string()), (7, "[::1]:9".to_owned()));
    }

    #[test]
    fn a_token_is_never_shown() {
        let given =
            Sources { flags: vec![("api.token", "correct horse battery".to_owned())], ..Sources::default() };
        let resolved = resolve(&given).unwrap();
        assert!(
            !format!("{} {} {resolved:?}", effective_toml(&resolved), effective_json(&resolved))
                .contains("horse")
        );
    }
}
