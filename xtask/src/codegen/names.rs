//! Rust names for what the wire calls otherwise.

/// `idTag` → `id_tag`, `evMaxV2XEnergyRequest` → `ev_max_v2x_energy_request`.
pub(super) fn snake(wire: &str) -> String {
    // Abbreviations that the letters alone do not tell.
    let wire = wire.replace("V2X", "V2x").replace("EMAIDs", "Emaids");
    let characters: Vec<char> = wire.chars().collect();
    let mut name = String::new();
    for (index, character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(index + 1);
        let begins_word = character.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
            });
        if begins_word {
            name.push('_');
        }
        name.extend(character.to_lowercase());
    }
    name
}

/// A member's name in Rust: `type` → `r#type`.
pub(super) fn field(wire: &str) -> String {
    let name = snake(wire);
    if matches!(
        name.as_str(),
        "type" | "final" | "abstract" | "move" | "ref" | "use" | "where" | "in" | "match"
    ) {
        format!("r#{name}")
    } else {
        name
    }
}

/// `IdTokenInfo` → `ID_TOKEN_INFO`.
pub(super) fn screaming(name: &str) -> String {
    snake(name).to_uppercase()
}

/// `Energy.Active.Net` → `EnergyActiveNet`, `AC_single_phase` → `AcSinglePhase`, `kWh` → `KWh`.
pub(super) fn variant(wire: &str) -> String {
    let pieces: Vec<&str> = wire
        .split(|character: char| !character.is_alphanumeric())
        .filter(|piece| !piece.is_empty())
        .collect();
    let joined = wire.contains('_');
    let mut name = String::new();
    for piece in pieces {
        let mut characters = piece.chars();
        name.extend(characters.next().map(|first| first.to_ascii_uppercase()));
        let rest: String = characters.collect();
        if joined && !rest.chars().any(|character| character.is_lowercase()) {
            name.push_str(&rest.to_lowercase());
        } else {
            name.push_str(&rest);
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_named_by_their_words() {
        for (wire, name) in [
            ("idTag", "id_tag"),
            ("limit_L2", "limit_l2"),
            ("evSupportedDERControl", "ev_supported_der_control"),
            ("prioritizedEMAIDs", "prioritized_emaids"),
            ("fixedPFAbsorb", "fixed_pf_absorb"),
            ("evMaxV2XEnergyRequest", "ev_max_v2x_energy_request"),
            ("v2xFreqWattCurve", "v2x_freq_watt_curve"),
            ("iso15118CertificateHashData", "iso15118_certificate_hash_data"),
            ("responderURL", "responder_url"),
            ("numEPriceLevels", "num_e_price_levels"),
            ("evDurationLevel1DCInjection", "ev_duration_level1_dc_injection"),
            ("taxRuleID", "tax_rule_id"),
        ] {
            assert_eq!(snake(wire), name);
        }
        assert_eq!(field("type"), "r#type");
    }

    #[test]
    fn values_are_named_by_their_words() {
        for (wire, name) in [
            ("Energy.Active.Net", "EnergyActiveNet"),
            ("AC_single_phase", "AcSinglePhase"),
            ("AC_BPT_DER", "AcBptDer"),
            ("L1-N", "L1N"),
            ("kWh", "KWh"),
            ("s309-1P-16A", "S3091P16A"),
            ("DeAuthorized", "DeAuthorized"),
        ] {
            assert_eq!(variant(wire), name);
        }
    }
}
