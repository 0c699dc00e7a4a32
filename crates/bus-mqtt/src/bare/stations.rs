//! The stations that are here, and on which connection to the broker they are listened for.

use crate::line::Line;
use bytestring::ByteString;
use foldhash::{HashMap, HashMapExt as _};
use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};
use switchboard_bus::{Attendance, Metadata, PublishError};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// Tenant and station.
type Key = (ByteString, ByteString);

/// A station that is here.
pub(super) struct Present {
    pub(super) who: Attendance,
    pub(super) line: Arc<Line>,
    pub(super) topic_in: String,
    pub(super) topic_out: String,
    /// Whether we listen for it. The connections of one station share it, as they do the subscription.
    is_subscribed: Arc<watch::Sender<bool>>,
    /// Since when it is here.
    since: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The calls whose answers may come, the oldest first; at most [`AWAITED_MAX`].
    awaited: VecDeque<Awaited>,
    /// The ids of the commands that came last, as a broker may bring one twice.
    commands: VecDeque<Box<str>>,
}

/// A call whose answer may come.
pub(super) struct Awaited {
    /// What the answer's envelope says.
    pub(super) about: Box<Metadata>,
    /// The station's own id, as JSON text.
    pub(super) id: Box<str>,
}

impl Present {
    pub(super) fn await_answer(&self, awaited: Awaited) {
        let mut state = self.state();
        // Handed over again, it has the same token.
        let token = awaited.token();
        state.awaited.retain(|other| other.token() != token);
        if state.awaited.len() >= AWAITED_MAX {
            state.awaited.pop_front();
        }
        state.awaited.push_back(awaited);
    }

    /// The call that this token is for; it waits no more.
    pub(super) fn answered(&self, token: &str) -> Option<Awaited> {
        let mut state = self.state();
        let place = state.awaited.iter().position(|awaited| {
            awaited
                .token()
                .is_some_and(|(generation, seq)| super::token(generation, seq).trim_matches('"') == token)
        })?;
        state.awaited.remove(place)
    }

    /// Whether a command of this id has not come before.
    pub(super) fn is_first(&self, id: &str) -> bool {
        let mut state = self.state();
        if state.commands.iter().any(|other| **other == *id) {
            return false;
        }
        if state.commands.len() >= COMMANDS_REMEMBERED {
            state.commands.pop_front();
        }
        state.commands.push_back(id.into());
        true
    }

    pub(super) fn subscribed(&self) {
        self.is_subscribed.send_replace(true);
    }

    /// Waits until we listen for it.
    pub(super) async fn is_subscribed(&self) -> Result<(), PublishError> {
        if *self.is_subscribed.borrow() {
            return Ok(());
        }
        let mut is_subscribed = self.is_subscribed.subscribe();
        let waited = is_subscribed.wait_for(|is| *is);
        let waited = if self.line.is_up() {
            waited.await.map(drop)
        } else {
            // That of a station that has just come may be just being made, and then the broker is not away.
            match timeout_at(self.since + LINE_MADE, waited).await {
                Ok(waited) => waited.map(drop),
                Err(_) => return Err(PublishError::Away),
            }
        };
        waited.map_err(|_| PublishError::Away)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaited {
    fn token(&self) -> Option<(u64, u64)> {
        Some((self.about.connection.as_ref()?.generation, self.about.seq?))
    }
}

struct Group {
    line: Arc<Line>,
    /// Its client id has this number.
    index: usize,
    stations: usize,
}

/// All stations that are here.
pub(super) struct Table {
    /// The first stays even without stations.
    groups: Vec<Group>,
    stations: HashMap<Key, Arc<Present>>,
    /// By the topic that their answers come on.
    listening: HashMap<String, Key>,
}

impl Table {
    pub(super) fn new() -> Self {
        Self { groups: Vec::new(), stations: HashMap::new(), listening: HashMap::new() }
    }

    pub(super) fn first_line(&mut self, connect: impl FnOnce(usize) -> Line) {
        self.groups.push(Group { line: Arc::new(connect(0)), index: 0, stations: 0 });
    }

    pub(super) fn any_line(&self) -> Option<Arc<Line>> {
        self.groups.first().map(|group| Arc::clone(&group.line))
    }

    pub(super) fn present(&self, key: &Key) -> Option<Arc<Present>> {
        self.stations.get(key).cloned()
    }

    pub(super) fn listening(&self, topic: &str) -> Option<Arc<Present>> {
        self.present(self.listening.get(topic)?)
    }

    /// A station has a connection here. True: it is to be listened for. None if a newer connection of it is here.
    pub(super) fn enter(
        &mut self,
        key: Key,
        who: Attendance,
        connect: impl FnOnce(usize) -> Line,
    ) -> Option<(Arc<Present>, bool)> {
        if let Some(before) = self.stations.get(&key) {
            if before.who.connection.generation > who.connection.generation {
                return None;
            }
            let mut state = State::default();
            {
                let mut earlier = before.state();
                // What was commanded stays known, and the journal's calls are nobody's in particular.
                state.commands = std::mem::take(&mut earlier.commands);
                state.awaited = std::mem::take(&mut earlier.awaited);
                state.awaited.retain(|awaited| awaited.about.journal.is_some());
            }
            let present = Arc::new(Present {
                who,
                line: Arc::clone(&before.line),
                topic_in: before.topic_in.clone(),
                topic_out: before.topic_out.clone(),
                is_subscribed: Arc::clone(&before.is_subscribed),
                since: Instant::now(),
                state: Mutex::new(state),
            });
            let is_listened_for = *present.is_subscribed.borrow();
            self.stations.insert(key, Arc::clone(&present));
            return Some((present, !is_listened_for));
        }
        let line = self.line_with_room(connect);
        let (topic_in, topic_out) = (topic_of(&key, "in"), topic_of(&key, "out"));
        let present = Arc::new(Present {
            who,
            line,
            topic_in,
            topic_out: topic_out.clone(),
            is_subscribed: Arc::new(watch::Sender::new(false)),
            since: Instant::now(),
            state: Mutex::default(),
        });
        self.listening.insert(topic_out, key.clone());
        self.stations.insert(key, Arc::clone(&present));
        Some((present, true))
    }

    fn line_with_room(&mut self, connect: impl FnOnce(usize) -> Line) -> Arc<Line> {
        if let Some(group) = self.groups.iter_mut().find(|group| group.stations < STATIONS_PER_LINE) {
            group.stations += 1;
            return Arc::clone(&group.line);
        }
        // The lowest number that is free, so that a client id is not used twice and numbers stay small.
        let index = (0..=self.groups.len())
            .find(|index| self.groups.iter().all(|group| group.index != *index))
            .unwrap_or(self.groups.len());
        let line = Arc::new(connect(index));
        self.groups.push(Group { line: Arc::clone(&line), index, stations: 1 });
        line
    }

    /// A connection has ended. What is given back is to be dropped without the lock.
    pub(super) fn leave(&mut self, key: &Key, generation: u64) -> Option<(Arc<Present>, Option<Arc<Line>>)> {
        let present = self.stations.get(key)?;
        if present.who.connection.generation != generation {
            return None;
        }
        let present = self.stations.remove(key)?;
        self.listening.remove(&present.topic_out);
        present.line.unsubscribe(&present.topic_out);
        let place = self.groups.iter().position(|group| Arc::ptr_eq(&group.line, &present.line));
        let mut empty = None;
        if let Some(place) = place
            && let Some(group) = self.groups.get_mut(place)
        {
            group.stations -= 1;
            if group.stations == 0 && group.index != 0 {
                empty = Some(self.groups.remove(place).line);
            }
        }
        Some((present, empty))
    }

    pub(super) fn clear(&mut self) -> Vec<Arc<Line>> {
        self.stations.clear();
        self.listening.clear();
        self.groups.drain(..).map(|group| group.line).collect()
    }
}

/// `{station}/in`, or `{tenant}/{station}/in` for any tenant but the default one. What MQTT reserves in topics is
/// percent-encoded, and nothing else.
pub(super) fn topic_of(key: &Key, direction: &str) -> String {
    let mut topic = String::new();
    if key.0 != "default" {
        push_level(&mut topic, &key.0);
    }
    push_level(&mut topic, &key.1);
    topic.push_str(direction);
    topic
}

fn push_level(topic: &mut String, id: &str) {
    for (place, character) in id.char_indices() {
        let is_reserved = matches!(character, '/' | '+' | '#' | '%')
            || character.is_control()
            || (character == '$' && place == 0);
        if is_reserved {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                // Writing to a text cannot fail.
                let _written = write!(topic, "%{byte:02X}");
            }
        } else {
            topic.push(character);
        }
    }
    topic.push('/');
}

/// AWS IoT Core allows no more subscriptions on one connection.
pub(super) const STATIONS_PER_LINE: usize = 50;
/// How long a station's first call waits for a connection to the broker that is made for it.
const LINE_MADE: std::time::Duration = std::time::Duration::from_secs(1);
/// One call at a time, and a few of the journal.
const AWAITED_MAX: usize = 16;
const COMMANDS_REMEMBERED: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_the_stations_name_with_nothing_but_what_mqtt_reserves_encoded() {
        let topic =
            |tenant: &'static str, station: &'static str| topic_of(&(tenant.into(), station.into()), "in");
        assert_eq!(topic("default", "RDAM|123.ü-_:"), "RDAM|123.ü-_:/in");
        assert_eq!(topic("default", "$a/b+c#d%"), "%24a%2Fb%2Bc%23d%25/in");
        assert_eq!(topic("fleet", "CP1"), "fleet/CP1/in");
    }
}
