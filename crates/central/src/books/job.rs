//! Firmware updates and log uploads: from the request to the station's last word.
//!
//! Stations repeat themselves, and deliver late what was said before a line broke. So each status has a rank, and a job
//! only moves up; what does not move it is kept as a step with a remark.

use super::Ledger;
use crate::store::{OptionalExtension, Row, StoreError};

/// What is asked of a station.
#[derive(Clone, Debug)]
pub(crate) struct NewJob {
    /// `firmware` or `log`.
    pub(crate) kind: &'static str,
    /// Of a log: which.
    pub(crate) what: Option<&'static str>,
    pub(crate) url: String,
    pub(crate) retries: i64,
}

/// What a status does to a job.
struct Effect {
    rank: i64,
    phase: &'static str,
}

/// Steps of one job, and of those of no job of one station; further ones take the place of the oldest.
const STEPS_MAX: i64 = 200;
/// Where a failed transfer stands. It may begin again while there are attempts left.
const FAILED: i64 = 8;
/// From here on a boot is likely to be the one with the new firmware.
const INSTALLING: i64 = 6;

fn effect(kind: &str, status: &str) -> Option<Effect> {
    let (rank, phase) = match (kind, status) {
        ("firmware", "DownloadScheduled") => (1, "running"),
        ("firmware", "Downloading" | "DownloadPaused") => (2, "running"),
        ("firmware", "Downloaded") => (3, "running"),
        ("firmware", "SignatureVerified") => (4, "running"),
        ("firmware", "InstallScheduled") => (5, "running"),
        // Stations reboot before they install as well as after it.
        ("firmware", "Installing" | "InstallRebooting") => (INSTALLING, "running"),
        (
            "firmware",
            "DownloadFailed" | "InvalidSignature" | "InstallVerificationFailed" | "InstallationFailed",
        )
        | (
            "log",
            "UploadFailed" | "UploadFailure" | "BadMessage" | "NotSupportedOperation" | "PermissionDenied",
        ) => (FAILED, "failed"),
        ("log", "AcceptedCanceled") => (FAILED, "cancelled"),
        ("firmware", "Installed") | ("log", "Uploaded") => (9, "done"),
        ("log", "Uploading") => (2, "running"),
        _ => return None,
    };
    Some(Effect { rank, phase })
}

/// A job as far as a status must know it.
struct Known {
    id: i64,
    phase: String,
    status: Option<String>,
    rank: i64,
    retries: i64,
}

impl Ledger<'_> {
    /// Lays down a job; gives out its number.
    pub(crate) fn job_new(&self, job: &NewJob) -> Result<i64, StoreError> {
        let id = self.next_request()?;
        self.db
            .prepare_cached(
                "INSERT INTO job (id, station, kind, what, url, retries, phase, firmware_before, requested_ms,
                                  updated_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'requested', (SELECT firmware FROM station WHERE id = ?2), ?7, ?7)",
            )?
            .execute((
                id,
                self.station,
                job.kind,
                job.what,
                &job.url,
                job.retries,
                self.now_ms,
            ))?;
        Ok(id)
    }

    /// The station answered the request: `status` as on the wire, Accepted where the version has none.
    pub(crate) fn job_answered(
        &self,
        id: i64,
        status: &str,
        file: Option<&str>,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        let Some(kind) = self.job_kind(id)? else { return Ok(()) };
        self.step(&kind, Some(id), None, status, Some("answer"))?;
        let phase = match status {
            "Accepted" | "AcceptedCanceled" => {
                let others = if status == "Accepted" { "replaced" } else { "cancelled" };
                self.db
                    .prepare_cached(
                        "UPDATE job SET phase = ?4, updated_ms = ?5
                         WHERE station = ?1 AND kind = ?2 AND id < ?3 AND phase IN ('unknown', 'accepted', 'running')",
                    )?
                    .execute((self.station, &kind, id, others, self.now_ms))?;
                "accepted"
            }
            _ => "rejected",
        };
        // Statuses may be worked off before the answer to the request is, even the last one.
        self.db
            .prepare_cached(
                "UPDATE job SET phase = CASE WHEN rank = 0 AND phase IN ('requested', 'unknown', 'accepted') THEN ?3 ELSE phase END,
                        file = coalesce(?4, file), detail = coalesce(?5, detail), updated_ms = ?6
                 WHERE station = ?1 AND id = ?2 AND phase NOT IN ('cancelled', 'replaced', 'rejected')",
            )?
            .execute((self.station, id, phase, file, detail, self.now_ms))?;
        Ok(())
    }

    /// The job ends without the station's doing: it was taken back, refused with an error, or there is nothing to do.
    pub(crate) fn job_ended(
        &self,
        id: i64,
        phase: &'static str,
        detail: Option<&str>,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE job SET phase = ?3, detail = coalesce(?4, detail), updated_ms = ?5
                 WHERE station = ?1 AND id = ?2 AND phase IN ('requested', 'unknown', 'accepted')",
            )?
            .execute((self.station, id, phase, detail, self.now_ms))?;
        Ok(())
    }

    /// The jobs of a kind that have not been sent, and so can still be taken back.
    pub(crate) fn jobs_unsent(&self, kind: &str) -> Result<Vec<i64>, StoreError> {
        let mut unsent = self.db.prepare_cached(
            "SELECT id FROM job WHERE station = ?1 AND kind = ?2 AND phase = 'requested' ORDER BY id",
        )?;
        let unsent = unsent.query_map((self.station, kind), |row| row.get(0))?;
        Ok(unsent.collect::<Result<_, _>>()?)
    }

    /// A status of a station: of the job that it names, else of the one that it works on.
    pub(super) fn job_status(
        &self,
        kind: &str,
        status: &str,
        claimed: Option<i64>,
    ) -> Result<(), StoreError> {
        if status.is_empty() {
            return Ok(());
        }
        let job = match claimed {
            Some(id) => self.job_numbered(kind, id)?,
            None => self.job_in_hand(kind)?,
        };
        let Some(job) = job else {
            // Told that it does nothing, which is so.
            if status == "Idle" {
                return Ok(());
            }
            let remark = if claimed.is_some() { "no job of this number" } else { "no job is running" };
            return self.step(kind, None, claimed, status, Some(remark));
        };
        let Some(effect) = effect(kind, status) else {
            let remark = if status == "Idle" { "not working on it now" } else { "not a known status" };
            return self.step(kind, Some(job.id), claimed, status, Some(remark));
        };
        if job.status.as_deref() == Some(status) {
            return self.step(kind, Some(job.id), claimed, status, Some("repeated"));
        }
        let begins_again = job.rank == FAILED
            && job.retries > 0
            && matches!(job.status.as_deref(), Some("DownloadFailed" | "UploadFailed" | "UploadFailure"));
        if effect.rank < job.rank && !begins_again {
            return self.step(kind, Some(job.id), claimed, status, Some("late"));
        }
        if matches!(job.phase.as_str(), "cancelled" | "replaced" | "rejected") && effect.phase == "running" {
            return self.step(kind, Some(job.id), claimed, status, Some("after its end"));
        }
        self.db
            .prepare_cached(
                "UPDATE job SET phase = ?2, status = ?3, rank = ?4, updated_ms = ?5 WHERE id = ?1",
            )?
            .execute((job.id, effect.phase, status, effect.rank, self.now_ms))?;
        self.step(kind, Some(job.id), claimed, status, None)
    }

    /// A boot, before it is written down: was it the one with the new firmware?
    pub(super) fn job_booted(&self, firmware: Option<&str>) -> Result<(), StoreError> {
        let Some(firmware) = firmware else { return Ok(()) };
        let job: Option<(i64, i64, Option<String>, Option<String>)> = self
            .db
            .prepare_cached(
                "SELECT id, rank, firmware_before, firmware_after FROM job
                 WHERE station = ?1 AND kind = 'firmware' AND phase IN ('unknown', 'accepted', 'running', 'done', 'failed')
                 ORDER BY id DESC LIMIT 1",
            )?
            .query_row([self.station], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .optional()?;
        let Some((id, rank, before, after)) = job else { return Ok(()) };
        let known = after.as_deref().or(before.as_deref());
        let remark = if known != Some(firmware) {
            self.db
                .prepare_cached("UPDATE job SET firmware_after = ?2, updated_ms = ?3 WHERE id = ?1")?
                .execute((id, firmware, self.now_ms))?;
            format!("with firmware {firmware}; before: {}", known.unwrap_or("unknown"))
        } else if after.is_none() && rank >= INSTALLING {
            format!("still with firmware {firmware}")
        } else {
            return Ok(());
        };
        self.step("firmware", Some(id), None, "Boot", Some(&remark))
    }

    fn job_kind(&self, id: i64) -> Result<Option<String>, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT kind FROM job WHERE station = ?1 AND id = ?2")?
            .query_row((self.station, id), |row| row.get(0))
            .optional()?)
    }

    fn job_numbered(&self, kind: &str, id: i64) -> Result<Option<Known>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT id, phase, status, rank, retries FROM job WHERE station = ?1 AND kind = ?2 AND id = ?3",
            )?
            .query_row((self.station, kind, id), known)
            .optional()?)
    }

    /// The job that a status without a number is of: the one under way, else the one whose request is out, as the station
    /// may be quicker than the way of its answer, else the last one.
    fn job_in_hand(&self, kind: &str) -> Result<Option<Known>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT id, phase, status, rank, retries FROM job
                 WHERE station = ?1 AND kind = ?2 AND phase NOT IN ('rejected', 'replaced')
                   AND (phase <> 'requested' OR EXISTS (
                        SELECT 1 FROM duty JOIN station ON station.id = ?1
                        WHERE duty.tenant = station.tenant AND duty.station = station.identity AND duty.kind = ?2
                          AND duty.key = CAST(job.id AS TEXT) AND duty.state = 'sending'))
                 ORDER BY phase IN ('unknown', 'accepted', 'running') DESC, phase = 'requested' DESC, id DESC LIMIT 1",
            )?
            .query_row((self.station, kind), known)
            .optional()?)
    }

    fn step(
        &self,
        kind: &str,
        job: Option<i64>,
        claimed: Option<i64>,
        status: &str,
        remark: Option<&str>,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "INSERT INTO job_step (station, kind, job, claimed, status, remark, at_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute((self.station, kind, job, claimed, status, remark, self.now_ms))?;
        let too_old = match job {
            Some(_) => "DELETE FROM job_step WHERE id IN
                 (SELECT id FROM job_step WHERE job = ?1 ORDER BY id DESC LIMIT 9223372036854775807 OFFSET ?2)",
            None => "DELETE FROM job_step WHERE id IN
                 (SELECT id FROM job_step WHERE station = ?1 AND job IS NULL ORDER BY id DESC LIMIT 9223372036854775807 OFFSET ?2)",
        };
        self.db.prepare_cached(too_old)?.execute((job.unwrap_or(self.station), STEPS_MAX))?;
        Ok(())
    }
}

fn known(row: &Row<'_>) -> crate::store::Sql<Known> {
    Ok(Known {
        id: row.get(0)?,
        phase: row.get(1)?,
        status: row.get(2)?,
        rank: row.get(3)?,
        retries: row.get(4)?,
    })
}
