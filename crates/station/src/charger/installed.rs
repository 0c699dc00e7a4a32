//! Commands about what a station keeps: profiles, the local list, reservations, reports; and its jobs.

use super::{
    Charger, Moment,
    connector::{Reservation, Status},
    outgoing::{instant, time},
    upkeep::Later,
};
use crate::model::{
    device_model::{self, Evse, ITEMS_IN_PART, Which},
    profile::{Criteria, Purpose as For},
};
use serde_json::{Value, json};
use std::time::Duration;
use switchboard_rpc::Version;

/// A reservation that ends later than this ends then.
const RESERVED_MAX: Duration = Duration::from_secs(86_400 * 30);

impl Charger {
    pub(super) fn set_profile(
        &mut self,
        connector: u32,
        profile: &Value,
        now: Moment,
    ) -> Result<(), &'static str> {
        if connector > 0 && self.connector(connector).is_none() {
            return Err("there is no such connector");
        }
        let running = self.running_all();
        let here = running.iter().find(|one| one.connector == connector);
        self.flow(now);
        self.profiles.install(self.config.version, connector, profile, here, now.unix_ms)?;
        self.judge_flow(now);
        Ok(())
    }

    pub(super) fn clear_profiles_v16(&mut self, request: &Value, now: Moment) -> &'static str {
        let criteria = match request["id"].as_i64() {
            // Errata 3.25: an id alone decides.
            Some(id) => Criteria { ids: vec![id], ..Criteria::default() },
            None => criteria(request, "connectorId"),
        };
        self.clear_profiles(&criteria, now)
    }

    pub(super) fn clear_profiles_v2(&mut self, request: &Value, now: Moment) -> &'static str {
        let criteria = match request["chargingProfileId"].as_i64() {
            Some(id) => Criteria { ids: vec![id], ..Criteria::default() },
            None => criteria(&request["chargingProfileCriteria"], "evseId"),
        };
        self.clear_profiles(&criteria, now)
    }

    fn clear_profiles(&mut self, criteria: &Criteria, now: Moment) -> &'static str {
        self.flow(now);
        let cleared = self.profiles.clear(criteria);
        self.judge_flow(now);
        if cleared > 0 { "Accepted" } else { "Unknown" }
    }

    pub(super) fn report_profiles(&mut self, request: &Value) -> Value {
        let mut wanted = criteria(&request["chargingProfile"], "");
        wanted.connector = request["evseId"].as_u64().and_then(|id| u32::try_from(id).ok());
        let ids = request["chargingProfile"]["chargingProfileId"].as_array().into_iter().flatten();
        wanted.ids = ids.filter_map(Value::as_i64).collect();
        let found = self.profiles.meant(&wanted);
        if found.is_empty() {
            return json!({ "status": "NoProfiles" });
        }
        let mut evses: Vec<u32> = found.iter().map(|(evse, _)| *evse).collect();
        evses.sort_unstable();
        evses.dedup();
        let last = evses.last().copied();
        for evse in evses {
            let here: Vec<&Value> =
                found.iter().filter(|(one, _)| *one == evse).map(|(_, profile)| profile).collect();
            let mut report = json!({ "requestId": request["requestId"], "chargingLimitSource": "CSO",
                "evseId": evse, "chargingProfile": here });
            if Some(evse) != last {
                report["tbc"] = true.into();
            }
            self.notice("ReportChargingProfiles", report);
        }
        json!({ "status": "Accepted" })
    }

    pub(super) fn composite_v16(&self, request: &Value, now: Moment) -> Value {
        let Some((connector, duration, amperes, periods)) = self.composite(request, "connectorId", now)
        else {
            return json!({ "status": "Rejected" });
        };
        json!({ "status": "Accepted", "connectorId": connector, "scheduleStart": time(now.unix_ms),
            "chargingSchedule": { "duration": duration, "startSchedule": time(now.unix_ms),
                "chargingRateUnit": if amperes { "A" } else { "W" }, "chargingSchedulePeriod": periods } })
    }

    pub(super) fn composite_v2(&self, request: &Value, now: Moment) -> Value {
        let Some((evse, duration, amperes, periods)) = self.composite(request, "evseId", now) else {
            return json!({ "status": "Rejected" });
        };
        json!({ "status": "Accepted", "schedule": { "evseId": evse, "duration": duration,
            "scheduleStart": time(now.unix_ms), "chargingRateUnit": if amperes { "A" } else { "W" },
            "chargingSchedulePeriod": periods } })
    }

    fn composite(&self, request: &Value, name: &str, now: Moment) -> Option<(u32, i64, bool, Value)> {
        let connector = request[name].as_u64().and_then(|id| u32::try_from(id).ok())?;
        let duration = request["duration"].as_i64().filter(|seconds| *seconds > 0)?;
        let here = self.connectors.iter().find(|one| one.id == connector);
        let most_w = if connector == 0 { self.station_w() } else { here?.power_w };
        let amperes = request["chargingRateUnit"] == "A";
        let running = self.running();
        let periods = self.profiles.composite(connector, &running, now.unix_ms, duration, amperes, most_w);
        Some((connector, duration, amperes, periods))
    }

    pub(super) fn list_version(&self) -> i64 {
        // 1.6 section 5.10: -1 if lists are not supported, 0 if there is none.
        match self.config.version {
            Version::V16 if !self.settings.is_on("LocalAuthListEnabled") => -1,
            _ => self.list.version(),
        }
    }

    pub(super) fn update_list(&mut self, request: &Value) -> &'static str {
        if !self.settings.is_on("LocalAuthListEnabled") {
            return "NotSupported";
        }
        self.list.update(self.config.version, request)
    }

    pub(super) fn reserve(
        &mut self,
        id: i64,
        token: String,
        connector: Option<u32>,
        expiry: &Value,
        now: Moment,
    ) -> &'static str {
        let Some(until) = instant(expiry, now).filter(|until| *until > now.at) else { return "Rejected" };
        let version = self.config.version;
        let fits = |status: Status| matches!(status, Status::Available | Status::Reserved);
        let same = |one: &super::Connector| one.reservation.as_ref().is_some_and(|kept| kept.id == id);
        // A reservation of the same number is replaced.
        let here = match connector {
            Some(wanted) => self.connectors.iter().find(|one| one.id == wanted),
            None => {
                let mut free = self.connectors.iter().filter(|one| fits(one.now(version)));
                free.find(|one| one.reservation.is_none() || same(one)).or_else(|| self.connectors.first())
            }
        };
        let Some(here) = here else { return "Rejected" };
        let verdict = match here.now(version) {
            Status::Available => "Accepted",
            Status::Reserved if same(here) => "Accepted",
            Status::Faulted => "Faulted",
            Status::Unavailable => "Unavailable",
            _ => "Occupied",
        };
        let place = here.id;
        if verdict == "Accepted" {
            self.cancel_reservation(id, now);
            if let Some(one) = self.connector(place) {
                let until = until.min(now.at + RESERVED_MAX);
                one.reservation = Some(Reservation { id, token, until });
            }
            self.refresh(place, now);
        }
        verdict
    }

    pub(super) fn cancel_reservation(&mut self, id: i64, now: Moment) -> bool {
        let kept = |one: &&mut super::Connector| one.reservation.as_ref().is_some_and(|kept| kept.id == id);
        let Some(here) = self.connectors.iter_mut().find(kept) else { return false };
        here.reservation = None;
        let place = here.id;
        self.refresh(place, now);
        true
    }

    /// What an EVSE or a connector says of itself in 2.x.
    pub(super) fn evse_variable(&self, component: &Value, variable: &str) -> Option<String> {
        let evse = component["evse"]["id"].as_u64()?;
        let asked =
            json!({ "componentVariable": [{ "component": component, "variable": { "name": variable } }] });
        let evses: Vec<Evse> = self.evses().into_iter().filter(|one| u64::from(one.id) == evse).collect();
        let found = device_model::report(&self.settings, &evses, Which::Asked(&asked));
        found.first()?["variableAttribute"][0]["value"].as_str().map(str::to_owned)
    }

    fn evses(&self) -> Vec<Evse> {
        self.connectors
            .iter()
            .map(|one| Evse {
                id: one.id,
                power_w: one.power_w,
                available: one.operative,
                state: one.now(self.config.version).v2(),
                faulted: one.broken.is_some(),
            })
            .collect()
    }

    pub(super) fn base_report(&mut self, request: &Value, now: Moment) -> Value {
        let which = match request["reportBase"].as_str() {
            Some("ConfigurationInventory") => Which::Settings,
            Some("FullInventory") => Which::All,
            Some("SummaryInventory") => Which::Summary,
            _ => return json!({ "status": "NotSupported" }),
        };
        let items = device_model::report(&self.settings, &self.evses(), which);
        self.notify_report(&request["requestId"], &items, now)
    }

    pub(super) fn report(&mut self, request: &Value, now: Moment) -> Value {
        let items = device_model::report(&self.settings, &self.evses(), Which::Asked(request));
        self.notify_report(&request["requestId"], &items, now)
    }

    fn notify_report(&mut self, id: &Value, items: &[Value], now: Moment) -> Value {
        if items.is_empty() {
            // 2.0.1 B08.FR.04.
            return json!({ "status": "EmptyResultSet" });
        }
        let parts: Vec<&[Value]> = items.chunks(ITEMS_IN_PART).collect();
        for (number, part) in parts.iter().enumerate() {
            let more = number + 1 < parts.len();
            self.notice(
                "NotifyReport",
                json!({ "requestId": id, "generatedAt": time(now.unix_ms), "seqNo": number, "tbc": more,
                    "reportData": part }),
            );
        }
        json!({ "status": "Accepted" })
    }

    pub(super) fn diagnostics(&mut self, request: &Value, now: Moment) -> Value {
        if request["location"].as_str().is_none_or(str::is_empty) {
            return json!({});
        }
        let action = "DiagnosticsStatusNotification";
        let last = if self.job_fails() { "UploadFailed" } else { "Uploaded" };
        let say = |status| Later::Say(action, json!({ "status": status }));
        if !self.job(now.at, vec![say("Uploading"), say(last)]) {
            return json!({});
        }
        json!({ "fileName": format!("{}-diagnostics.log", self.file_stem()) })
    }

    pub(super) fn log(&mut self, request: &Value, now: Moment) -> Value {
        let id = request["requestId"].clone();
        let last = if self.job_fails() { "UploadFailure" } else { "Uploaded" };
        let say = |status| Later::Say("LogStatusNotification", json!({ "status": status, "requestId": id }));
        if !self.job(now.at, vec![say("Uploading"), say(last)]) {
            return json!({ "status": "Rejected" });
        }
        json!({ "status": "Accepted", "filename": format!("{}.log", self.file_stem()) })
    }

    pub(super) fn firmware_v16(&mut self, request: &Value, now: Moment) -> Value {
        let begin = self.not_before(&request["retrieveDate"], now);
        let say = |status: &str| Later::Say("FirmwareStatusNotification", json!({ "status": status }));
        let steps = if self.job_fails() {
            vec![say("Downloading"), say("DownloadFailed")]
        } else {
            let installed = json!({ "status": "Installed" });
            vec![
                say("Downloading"),
                say("Downloaded"),
                say("Installing"),
                Later::Reboot("FirmwareStatusNotification", installed),
            ]
        };
        // 1.6 has no way to say no.
        self.job(begin, steps);
        json!({})
    }

    pub(super) fn firmware_signed(&mut self, action: &'static str, request: &Value, now: Moment) -> Value {
        let id = &request["requestId"];
        let begin = self.not_before(&request["firmware"]["retrieveDateTime"], now);
        let say = |status: &str| Later::Say(action, json!({ "status": status, "requestId": id }));
        let mut steps = Vec::new();
        if begin > now.at {
            self.notice(action, json!({ "status": "DownloadScheduled", "requestId": id }));
        }
        steps.push(say("Downloading"));
        if self.job_fails() {
            steps.push(say("DownloadFailed"));
        } else {
            steps.push(say("Downloaded"));
            if request["firmware"]["signature"].is_string() {
                steps.push(say("SignatureVerified"));
            }
            steps.push(say("Installing"));
            steps.push(say("InstallRebooting"));
            steps.push(Later::Reboot(action, json!({ "status": "Installed", "requestId": id })));
        }
        if !self.job(begin, steps) {
            return json!({ "status": "Rejected" });
        }
        json!({ "status": "Accepted" })
    }

    /// What the name of a file of this station begins with.
    fn file_stem(&self) -> String {
        let plain = |one: char| if one.is_ascii_alphanumeric() || one == '-' { one } else { '_' };
        self.config.id.chars().map(plain).take(40).collect()
    }
}

fn criteria(value: &Value, connector: &str) -> Criteria {
    Criteria {
        ids: Vec::new(),
        connector: value[connector].as_u64().and_then(|id| u32::try_from(id).ok()),
        purpose: value["chargingProfilePurpose"].as_str().and_then(For::named),
        level: value["stackLevel"].as_i64(),
    }
}
