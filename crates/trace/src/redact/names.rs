//! Which members hold what: personal data, secrets, or neither.

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Shown as it is.
    #[default]
    Plain,
    /// Says who a driver or customer is; shown to who asks for it.
    Personal,
    /// A password or a key; never shown.
    Secret,
}

/// What the value of a member is, by the member's name, the name of the member around it, and the action.
///
/// Any case of letters: some stations write `idtag`.
pub(crate) fn kind(name: &str, around: &str, action: Option<&str>) -> Kind {
    if name.len() > LONGEST {
        return Kind::Plain;
    }
    let mut folded = [0; LONGEST];
    let folded = &mut folded[..name.len()];
    folded.copy_from_slice(name.as_bytes());
    folded.make_ascii_lowercase();
    match &*folded {
        b"password" | b"basicauthpassword" | b"apnpassword" | b"apnusername" | b"simpin" | b"user"
        | b"authorizationkey" | b"privatekey" => Kind::Secret,
        // They carry the contract certificate with its encrypted private key.
        b"exirequest" | b"exiresponse" => Kind::Secret,
        // Of a VPN; elsewhere it is the name of a setting.
        b"key" if around.eq_ignore_ascii_case("vpn") => Kind::Secret,
        b"idtag"
        | b"parentidtag"
        | b"idtoken"
        | b"idtokens"
        | b"groupidtoken"
        | b"additionalidtoken"
        | b"masterpassgroupid"
        | b"customeridentifier"
        | b"customercertificate" => Kind::Personal,
        // Contracts of ISO 15118.
        b"emaid"
        | b"prioritizedemaids"
        | b"contractid"
        | b"evccid"
        | b"vin"
        | b"iso15118certificatehashdata" => Kind::Personal,
        // Of a driver's contract in Authorize; what else is a certificate is long and says little.
        b"certificate" => Kind::Personal,
        // A greeting with the driver's name; the customer of a receipt.
        b"updatedpersonalmessage"
        | b"personalmessage"
        | b"personalmessageextra"
        | b"vatnumber"
        | b"company"
        | b"vatcompany"
        | b"address1"
        | b"address2"
        | b"postalcode"
        | b"pspref"
        | b"receiptid"
        | b"receipturl" => Kind::Personal,
        // OCMF, the usual format of signed readings, names the driver.
        b"signedmeterdata" => Kind::Personal,
        b"licenseplate" | b"platenumber" | b"phonenumber" | b"email" => Kind::Personal,
        // Of vendors and customers; nobody knows what is in it. A stream of readings only shares the name.
        b"data" if action != Some("NotifyPeriodicEventStream") => Kind::Personal,
        b"customdata" => Kind::Personal,
        _ => Kind::Plain,
    }
}

/// Whether a member within something personal still says nothing of a person.
pub(crate) fn is_plain_within(name: &str) -> bool {
    ["type", "vendorId", "format", "language", "hashAlgorithm", "status"]
        .iter()
        .any(|plain| plain.eq_ignore_ascii_case(name))
}

/// What the value beside a key, or beside a variable's name, is: `{"key": …, "value": …}`.
pub(crate) fn kind_beside(key: &str) -> Kind {
    let folded: String = key
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|character| character.to_ascii_lowercase())
        .collect();
    let has = |words: &[&str]| words.iter().any(|word| folded.contains(word));
    if has(&["idtag", "idtoken", "masterpassgroupid", "emaid", "contractid"]) {
        Kind::Personal
    } else if has(&[
        "password",
        "passwd",
        "passphrase",
        "pwd",
        "secret",
        "authorizationkey",
        "privatekey",
        "apikey",
        "accesskey",
        "wifikey",
        "psk",
        "credential",
        "token",
        "simpin",
        "apnuser",
    ]) || folded.ends_with("pin")
    {
        Kind::Secret
    } else {
        Kind::Plain
    }
}

/// Members whose value is what the key or variable beside them is.
pub(crate) fn is_value_beside(name: &str) -> bool {
    ["value", "attributeValue", "variableAttribute", "actualValue", "setMonitoringData", "variableMonitoring"]
        .iter()
        .any(|value| value.eq_ignore_ascii_case(name))
}

/// Longer names are not among ours.
const LONGEST: usize = 27;
