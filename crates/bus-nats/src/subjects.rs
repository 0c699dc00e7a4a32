//! Addresses as subjects, and the subjects that name what comes back.

use bytestring::ByteString;
use switchboard_bus::{Address, ConnectionKey, Kind, Metadata, Topic, partition, percent};
use switchboard_rpc::StationId;

/// The subjects of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Subjects {
    /// `ocpp.v1.NS.`
    root: String,
    partitions: u16,
}

/// All workers of a namespace.
pub(crate) const GROUP: &str = "workers";
/// All gateways of a namespace.
const GATEWAYS: &str = "gateways";
/// Where the owner of an inbox says that it is one.
const OWNER: &str = "owner";

impl Subjects {
    pub(crate) fn new(namespace: &str, partitions: u16) -> Self {
        Self { root: format!("ocpp.v1.{namespace}."), partitions }
    }

    /// Writes the subject of an address.
    pub(crate) fn write(&self, to: &Address, subject: &mut String) {
        subject.push_str(&self.root);
        match to {
            Address::Call { tenant, station } => {
                subject.push_str("call.");
                let partition = partition(tenant, station.as_str(), self.partitions);
                subject.push_str(itoa::Buffer::new().format(partition));
                push_token(subject, tenant);
                push_token(subject, station.as_str());
            }
            Address::Command { tenant, station } => {
                subject.push_str("command");
                push_token(subject, tenant);
                push_token(subject, station.as_str());
            }
            Address::Inbox(name) => {
                subject.push_str("inbox");
                push_token(subject, name);
            }
            Address::Presence => subject.push_str("presence"),
            Address::Event { tenant, station } => {
                subject.push_str("event");
                push_token(subject, tenant);
                push_token(subject, station.as_str());
            }
        }
    }

    /// What to subscribe to; with the group, if each is to go to one only.
    pub(crate) fn of(&self, topic: &Topic) -> (Vec<String>, Option<&'static str>) {
        let root = &self.root;
        match topic {
            Topic::Calls => (vec![format!("{root}call.>")], Some(GROUP)),
            Topic::Commands => (vec![format!("{root}command.>")], Some(GATEWAYS)),
            Topic::Inbox(name) => {
                let inbox = format!("{root}inbox.{}", percent::encode_token(name));
                (vec![format!("{inbox}.>"), inbox], None)
            }
            Topic::Presence => (vec![format!("{root}presence")], None),
            Topic::Events => (vec![format!("{root}event.>")], None),
        }
    }

    /// Where is asked whether an inbox has an owner.
    pub(crate) fn owner(&self, inbox: &str) -> String {
        format!("{}inbox.{}.{OWNER}", self.root, percent::encode_token(inbox))
    }

    /// Where this comes back to if nobody takes it; false if it is not to come back.
    pub(crate) fn write_return(&self, metadata: &Metadata, body: &[u8], subject: &mut String) -> bool {
        let Some((reply_to, kind)) = returns_to(metadata, body) else { return false };
        let Some(station) = &metadata.station else { return false };
        subject.push_str(&self.root);
        subject.push_str("inbox");
        push_token(subject, reply_to);
        match kind {
            Back::Call { generation, seq } => {
                subject.push_str(".call");
                push_token(subject, &metadata.tenant);
                push_token(subject, station.as_str());
                let mut digits = itoa::Buffer::new();
                for number in [generation, seq, metadata.attempt.into()] {
                    subject.push('.');
                    subject.push_str(digits.format(number));
                }
                if let Some(journal) = metadata.journal {
                    subject.push('.');
                    subject.push_str(digits.format(journal));
                }
            }
            Back::Command { id } => {
                subject.push_str(".command");
                push_token(subject, &metadata.tenant);
                push_token(subject, station.as_str());
                push_token(subject, id);
            }
        }
        true
    }

    /// What the end of such a subject names: the metadata of an answer to it, or of its return.
    pub(crate) fn read_return(&self, subject: &str, kind: Kind) -> Option<Metadata> {
        let mut tokens = subject.strip_prefix(&self.root)?.strip_prefix("inbox.")?.split('.');
        let inbox = percent::decode_token(tokens.next()?)?;
        let what = tokens.next()?;
        let mut metadata = Metadata::new(kind);
        metadata.tenant = percent::decode_token(tokens.next()?)?;
        metadata.station = Some(StationId::new(percent::decode_token(tokens.next()?)?, 255).ok()?);
        match what {
            "call" => {
                let generation = tokens.next()?.parse().ok()?;
                metadata.connection = Some(ConnectionKey { gateway: inbox, generation });
                metadata.seq = Some(tokens.next()?.parse().ok()?);
                metadata.attempt = tokens.next()?.parse().ok()?;
                metadata.journal = tokens.next().map(str::parse).transpose().ok()?;
            }
            "command" => metadata.command_id = Some(percent::decode_token(tokens.next()?)?),
            _ => return None,
        }
        tokens.next().is_none().then_some(metadata)
    }

    /// Whether this asks for the owner of an inbox.
    pub(crate) fn asks_for_owner(&self, subject: &str) -> bool {
        let mut tokens = subject.strip_prefix(&self.root).unwrap_or_default().split('.').skip(2);
        tokens.next() == Some(OWNER) && tokens.next().is_none()
    }
}

enum Back<'a> {
    Call { generation: u64, seq: u64 },
    Command { id: &'a ByteString },
}

/// To which inbox an envelope comes back, and what it must say there.
fn returns_to<'a>(metadata: &'a Metadata, body: &[u8]) -> Option<(&'a ByteString, Back<'a>)> {
    let reply_to = metadata.reply_to.as_ref().filter(|_| metadata.comes_back(body))?;
    let back = match metadata.kind {
        Kind::Command => Back::Command { id: metadata.command_id.as_ref()? },
        _ => Back::Call { generation: metadata.connection.as_ref()?.generation, seq: metadata.seq? },
    };
    Some((reply_to, back))
}

fn push_token(subject: &mut String, id: &str) {
    subject.push('.');
    if id.is_empty() {
        // No token may be empty; nobody's name is this one.
        subject.push('%');
    } else {
        subject.push_str(&percent::encode_token(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use switchboard_bus::OutcomeKind;

    fn subjects() -> Subjects {
        Subjects::new("fleet-1", 256)
    }

    fn written(to: &Address) -> String {
        let mut subject = String::new();
        subjects().write(to, &mut subject);
        subject
    }

    fn station(id: &'static str) -> StationId {
        StationId::new(id, 48).unwrap()
    }

    #[test]
    fn addresses_are_those_of_the_contract() {
        let partition = partition("t.1", "RDAM|1.*", 256);
        let call = Address::Call { tenant: "t.1".into(), station: station("RDAM|1.*") };
        assert_eq!(written(&call), format!("ocpp.v1.fleet-1.call.{partition}.t%2E1.RDAM%7C1%2E%2A"));
        assert_eq!(written(&Address::Inbox("gateway 1".into())), "ocpp.v1.fleet-1.inbox.gateway%201");
        let command = Address::Command { tenant: "t.1".into(), station: station("CP 1") };
        assert_eq!(written(&command), "ocpp.v1.fleet-1.command.t%2E1.CP%201");
        assert_eq!(written(&Address::Presence), "ocpp.v1.fleet-1.presence");
        let event = Address::Event { tenant: "default".into(), station: station("CP>") };
        assert_eq!(written(&event), "ocpp.v1.fleet-1.event.default.CP%3E");
    }

    #[test]
    fn the_document_for_others_has_these_addresses_and_no_more() {
        let document = include_str!("../../../docs/asyncapi.yaml");
        let channels = document.lines().zip(document.lines().skip(1));
        let documented = channels
            .filter(|(name, _)| name.starts_with("  nats-"))
            .filter_map(|(_, address)| address.trim().strip_prefix("address: '")?.strip_suffix('\''));
        let (tenant, station): (ByteString, _) = ("TENANT".into(), station("STATION"));
        let partition = partition(&tenant, station.as_str(), 256).to_string();
        let (call, command) = (
            Address::Call { tenant: tenant.clone(), station: station.clone() },
            Address::Command { tenant: tenant.clone(), station: station.clone() },
        );
        let event = Address::Event { tenant, station };
        let subjects = Subjects::new("NAMESPACE", 256);
        let ours = [call, command, Address::Inbox("NAME".into()), Address::Presence, event].map(|to| {
            let mut subject = String::new();
            subjects.write(&to, &mut subject);
            subject
        });
        let documented = documented.map(|address| {
            let address = address.replace("{namespace}", "NAMESPACE").replace("{partition}", &partition);
            address.replace("{tenant}", "TENANT").replace("{station}", "STATION").replace("{name}", "NAME")
        });
        assert_eq!(documented.collect::<Vec<_>>(), ours);
    }

    #[test]
    fn the_subject_of_a_return_names_the_call() {
        let mut call = Metadata::new(Kind::Call);
        call.tenant = "t.1".into();
        call.station = Some(station("RDAM|1.*"));
        call.connection = Some(ConnectionKey { gateway: "gw.1".into(), generation: 7 });
        call.seq = Some(8);
        call.attempt = 9;
        call.reply_to = Some("gw.1".into());
        for journal in [None, Some(10)] {
            call.journal = journal;
            let mut subject = String::new();
            assert!(subjects().write_return(&call, b"[]", &mut subject));
            assert!(
                subject.starts_with("ocpp.v1.fleet-1.inbox.gw%2E1.call.t%2E1.RDAM%7C1%2E%2A.7.8.9"),
                "{subject}"
            );
            let mut read = subjects().read_return(&subject, Kind::Returned).unwrap();
            read.outcome = Some(OutcomeKind::Offline);
            assert_eq!(read, call.returned(OutcomeKind::Offline));
        }
        assert!(!subjects().asks_for_owner("ocpp.v1.fleet-1.inbox.owner"));
        assert!(subjects().asks_for_owner(&subjects().owner("owner")));
        for other in [
            "",
            "ocpp.v1.fleet-1.inbox.gw",
            "ocpp.v1.fleet-1.inbox.gw.call.t.s.1.2.x",
            "ocpp.v1.fleet-1.inbox.gw.call.t.s.1.2.3.4.5",
        ] {
            assert_eq!(subjects().read_return(other, Kind::Returned), None, "{other}");
        }
    }
}
