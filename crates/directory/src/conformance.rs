//! The contract's promises as tests, for every implementation of [`Directory`].
//!
//! An implementation's tests are one line: [`directory_conformance!`](crate::directory_conformance) with an expression
//! that makes a [`Harness`]. Each test uses a tenant of its own, so that they may share a database.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "these are tests; they fail by panicking"
)]

mod agreement;
mod connections;
mod journal;
mod outbox;
mod shared;
mod stations;

pub use agreement::the_first_to_say_it_decides_for_all;
pub use connections::{
    a_claim_names_the_connection_before, a_connection_that_was_lost_is_restored_unless_there_is_a_later_one,
    a_lease_that_ran_out_makes_its_stations_offline, a_release_of_an_older_generation_changes_nothing,
    generations_rise_also_when_the_clock_goes_back, generations_rise_from_owner_to_owner,
    many_claims_at_once_all_get_generations_of_their_own,
};
pub use journal::{
    a_removed_entry_does_not_come_back, entries_come_out_as_they_went_in_and_in_order,
    ids_are_not_given_again_after_reopening, many_appends_at_once_are_all_there_after_reopening,
    what_was_refused_is_kept_aside_until_it_is_settled,
};
pub use outbox::{
    a_command_ends_once, a_command_goes_in_once_per_station_and_id, a_command_is_taken_for_sending_once,
    a_command_that_was_not_written_waits_again, a_sweep_ends_what_expired_and_what_nobody_sends_any_more,
    commands_survive_reopening, urgent_commands_come_first_and_expired_ones_not_at_all,
};
pub use shared::{
    Sharing, a_command_is_taken_by_one_gateway_and_its_end_seen_by_all,
    a_journal_of_two_appenders_keeps_the_order_of_each_station, a_lease_that_ran_out_is_seen_by_all,
    claims_from_everywhere_make_one_chain, of_two_gateways_the_later_claim_names_the_earlier_one,
    the_turn_at_the_journal_is_one_gateways_at_a_time,
    what_a_dead_gateway_was_sending_is_ended_once_by_the_living, what_was_answered_survives_a_crash,
};
pub use stations::{
    accounts_are_kept_replaced_and_removed, registrations_survive_reconnection_and_reopening,
    stations_are_listed_in_order_whether_registered_or_seen,
};

#[cfg(test)]
pub(crate) use outbox::entry as command;

use crate::{Directory, StationKey};
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use switchboard_rpc::StationId;

/// Opens one directory, one owner after the other.
pub trait Harness: fmt::Debug + Send + Sync {
    /// The directory with what was put into it before. Whoever had it has closed it.
    fn open(&self) -> BoxFuture<'_, Arc<dyn Directory>>;
}

/// Any asynchronous function that opens a directory is a harness.
pub struct Opening<F>(pub F);

impl<F> fmt::Debug for Opening<F> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Opening")
    }
}

impl<F, R> Harness for Opening<F>
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Arc<dyn Directory>> + Send + 'static,
{
    fn open(&self) -> BoxFuture<'_, Arc<dyn Directory>> {
        Box::pin((self.0)())
    }
}

/// Yields one test per promise. The argument is an expression that makes a [`Harness`]; it may await. Where a directory
/// keeps neither outbox nor journal, `whereabouts,` before it leaves those out.
#[macro_export]
macro_rules! directory_conformance {
    (whereabouts, $harness:expr) => {
        $crate::directory_conformance! { @tests $harness;
            generations_rise_also_when_the_clock_goes_back
            generations_rise_from_owner_to_owner
            a_claim_names_the_connection_before
            a_release_of_an_older_generation_changes_nothing
            a_connection_that_was_lost_is_restored_unless_there_is_a_later_one
            a_lease_that_ran_out_makes_its_stations_offline
            many_claims_at_once_all_get_generations_of_their_own
            accounts_are_kept_replaced_and_removed
            registrations_survive_reconnection_and_reopening
            stations_are_listed_in_order_whether_registered_or_seen
            the_first_to_say_it_decides_for_all
        }
    };
    ($harness:expr) => {
        $crate::directory_conformance!(whereabouts, $harness);
        $crate::directory_conformance! { @tests $harness;
            entries_come_out_as_they_went_in_and_in_order
            a_removed_entry_does_not_come_back
            ids_are_not_given_again_after_reopening
            many_appends_at_once_are_all_there_after_reopening
            what_was_refused_is_kept_aside_until_it_is_settled
            a_command_goes_in_once_per_station_and_id
            a_command_is_taken_for_sending_once
            a_command_ends_once
            a_command_that_was_not_written_waits_again
            urgent_commands_come_first_and_expired_ones_not_at_all
            a_sweep_ends_what_expired_and_what_nobody_sends_any_more
            commands_survive_reopening
        }
    };
    (@tests $harness:expr; $($name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let harness = $harness;
                $crate::conformance::$name(&harness).await;
            }
        )*
    };
}

/// Yields one test per promise that holds between processes. The argument is an expression that makes a [`Sharing`]; it
/// may await. Where a directory keeps neither outbox nor journal, `whereabouts,` before it leaves those out. For one whose
/// data something else keeps there is [`what_was_answered_survives_a_crash`] besides.
#[macro_export]
macro_rules! shared_directory_conformance {
    (whereabouts, $sharing:expr) => {
        $crate::directory_conformance! { @tests $sharing;
            of_two_gateways_the_later_claim_names_the_earlier_one
            claims_from_everywhere_make_one_chain
            a_lease_that_ran_out_is_seen_by_all
        }
    };
    ($sharing:expr) => {
        $crate::shared_directory_conformance!(whereabouts, $sharing);
        $crate::directory_conformance! { @tests $sharing;
            a_command_is_taken_by_one_gateway_and_its_end_seen_by_all
            what_a_dead_gateway_was_sending_is_ended_once_by_the_living
            a_journal_of_two_appenders_keeps_the_order_of_each_station
            the_turn_at_the_journal_is_one_gateways_at_a_time
        }
    };
}

/// Some time, in milliseconds since 1970.
pub(crate) const NOW: i64 = 1_795_341_600_000;

pub(crate) fn key(tenant: &'static str, station: &str) -> StationKey {
    StationKey { tenant: tenant.into(), station: station_id(station) }
}

pub(crate) fn station_id(station: &str) -> StationId {
    StationId::new(station.to_owned(), 48).unwrap()
}
