//! Names of keys. A key is a subject, in the characters that all clients of key-value buckets allow.

use bytestring::ByteString;
use switchboard_bus::percent;
use switchboard_directory::StationKey;
use switchboard_rpc::StationId;

/// What is known of a station: `station.TENANT.STATION`.
pub(crate) const STATION: &str = "station";
/// What the operator registered: `account.TENANT.STATION`.
pub(crate) const ACCOUNT: &str = "account";

pub(crate) fn of(kind: &str, key: &StationKey) -> String {
    format!("{kind}.{}.{}", token(&key.tenant), token(key.station.as_str()))
}

/// All stations of a tenant.
pub(crate) fn of_tenant(kind: &str, tenant: &str) -> String {
    format!("{kind}.{}.*", token(tenant))
}

pub(crate) fn lease(gateway: &str) -> String {
    format!("lease.{}", token(gateway))
}

pub(crate) fn agreement(name: &str) -> String {
    format!("agreement.{}", token(name))
}

/// The station of a key that [`of`] wrote.
pub(crate) fn station(key: &str) -> Option<StationId> {
    let token = key.rsplit('.').next()?.replace('=', "%");
    let decoded: ByteString = percent::decode_token(&token)?;
    StationId::new(decoded, usize::MAX).ok()
}

fn token(id: &str) -> String {
    percent::encode_token(id).replace('~', "%7E").replace('%', "=")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hold_only_what_all_clients_allow_and_name_their_station() {
        for id in ["CP001", "RDAM|123.*>", "a~b=c d%", "\u{e9}"] {
            let key = StationKey { tenant: "t.1".into(), station: StationId::new(id, 48).unwrap() };
            let name = of(STATION, &key);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.".contains(&byte);
            assert!(name.bytes().all(allowed), "{name}");
            assert_eq!(name.split('.').count(), 3, "{name}");
            assert_eq!(station(&name), Some(key.station), "{name}");
        }
    }
}
