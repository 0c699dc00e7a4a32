//! What a setting is called in the other version: keys of 1.6, and the variables of 2.x that mean the same.

use switchboard_rpc::Version;

/// Those that have a counterpart without differences that matter.
const PAIRS: &[(&str, &str)] = &[
    ("AllowOfflineTxForUnknownId", "AuthCtrlr/OfflineTxForUnknownIdEnabled"),
    ("AuthorizationCacheEnabled", "AuthCacheCtrlr/Enabled"),
    ("AuthorizationKey", "SecurityCtrlr/BasicAuthPassword"),
    ("AuthorizeRemoteTxRequests", "AuthCtrlr/AuthorizeRemoteStart"),
    ("ClockAlignedDataInterval", "AlignedDataCtrlr/Interval"),
    ("ConnectionTimeOut", "TxCtrlr/EVConnectionTimeOut"),
    ("CpoName", "SecurityCtrlr/OrganizationName"),
    ("HeartbeatInterval", "OCPPCommCtrlr/HeartbeatInterval"),
    ("LocalAuthListEnabled", "LocalAuthListCtrlr/Enabled"),
    ("LocalAuthorizeOffline", "AuthCtrlr/LocalAuthorizeOffline"),
    ("LocalPreAuthorize", "AuthCtrlr/LocalPreAuthorize"),
    ("MeterValueSampleInterval", "SampledDataCtrlr/TxUpdatedInterval"),
    ("MeterValuesAlignedData", "AlignedDataCtrlr/Measurands"),
    ("MeterValuesSampledData", "SampledDataCtrlr/TxUpdatedMeasurands"),
    ("ResetRetries", "OCPPCommCtrlr/ResetRetries"),
    ("StopTransactionOnEVSideDisconnect", "TxCtrlr/StopTxOnEVSideDisconnect"),
    ("StopTransactionOnInvalidId", "TxCtrlr/StopTxOnInvalidId"),
    ("StopTxnAlignedData", "AlignedDataCtrlr/TxEndedMeasurands"),
    ("StopTxnSampledData", "SampledDataCtrlr/TxEndedMeasurands"),
    ("TransactionMessageAttempts", "OCPPCommCtrlr/MessageAttempts[TransactionEvent]"),
    ("TransactionMessageRetryInterval", "OCPPCommCtrlr/MessageAttemptInterval[TransactionEvent]"),
    ("UnlockConnectorOnEVSideDisconnect", "OCPPCommCtrlr/UnlockOnEVSideDisconnect"),
    ("WebSocketPingInterval", "OCPPCommCtrlr/WebSocketPingInterval"),
];

/// Why a name is none of a version, and what to set instead.
pub(super) fn of_another_version(name: &str, version: Version) -> String {
    let (here, there) = if version == Version::V16 { ("1.6", "2.x") } else { (version.as_str(), "1.6") };
    let other = PAIRS.iter().find_map(|(key, variable)| {
        if version == Version::V16 {
            variable.eq_ignore_ascii_case(name).then_some(*key)
        } else {
            key.eq_ignore_ascii_case(name).then_some(*variable)
        }
    });
    let instead = match other {
        Some(other) => format!("set {other} instead"),
        None if version == Version::V16 => "names there have no /, as HeartbeatInterval".to_owned(),
        None => {
            "names there are as OCPPCommCtrlr/HeartbeatInterval; switchboard device-model shows what it has"
                .to_owned()
        }
    };
    format!("a name of OCPP {there}, and the station speaks {here}: {instead}")
}

#[cfg(test)]
mod tests {
    use super::{super::variable::Name, PAIRS, of_another_version};
    use switchboard_rpc::Version;

    #[test]
    fn what_to_set_instead_is_said_both_ways() {
        assert_eq!(
            of_another_version("heartbeatinterval", Version::V201),
            "a name of OCPP 1.6, and the station speaks 2.0.1: set OCPPCommCtrlr/HeartbeatInterval instead"
        );
        assert_eq!(
            of_another_version("TxCtrlr/EVConnectionTimeOut", Version::V16),
            "a name of OCPP 2.x, and the station speaks 1.6: set ConnectionTimeOut instead"
        );
        assert!(of_another_version("Mystery", Version::V21).contains("speaks 2.1: names there"));
    }

    #[test]
    fn each_is_a_name_in_the_one_form_that_is_kept() {
        for (key, variable) in PAIRS {
            assert_eq!(Name::parse(variable).unwrap().to_string(), *variable);
            assert!(matches!(Name::parse(key), Ok(Name::Key(_))));
        }
    }
}
