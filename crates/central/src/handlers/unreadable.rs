//! Messages about money that cannot be read into their type (V10): kept as they came, and answered as if all were well.
//! A refusal would only make the station throw them away.

use super::call::{Call, Gate, encoded};
use super::readings::readings;
use super::{salvage, v16, v21, v201};
use crate::books::Ledger;
use crate::central::Central;
use crate::store::StoreError;
use bytestring::ByteString;
use switchboard_router::{CallError, Payload, State, Unreadable};
use switchboard_rpc::Version;

pub(super) async fn unreadable(
    State(central): State<Central>,
    call: Call,
    message: Unreadable,
) -> Result<Payload, CallError> {
    let (version, action) = (call.version, message.action.clone());
    let kept = central
        .keep_payload(Gate::NeverBooted, action, call, move |ledger, _| {
            let (action, payload) = (&*message.action, &*message.payload);
            if let Some(before) = ledger.unreadable_before(action, payload)? {
                return Ok(ByteString::from(before));
            }
            let answer = answer(ledger, version, action, payload)?;
            ledger.unreadable(action, payload, &message.violations.to_string(), &answer)?;
            Ok(answer)
        })
        .await?;
    kept.map(Payload::json).ok_or_else(CallError::stale)
}

/// Books what can be made of the message, and answers it.
fn answer(
    ledger: &Ledger<'_>,
    version: Version,
    action: &str,
    payload: &str,
) -> Result<ByteString, StoreError> {
    match action {
        "StartTransaction" => encoded(&v16::started(&ledger.start(&salvage::start(payload))?)),
        "StopTransaction" => {
            let verdict = salvage::stop(payload).map(|stop| ledger.stop(&stop)).transpose()?.flatten();
            encoded(&v16::stopped(verdict.as_ref()))
        }
        "TransactionEvent" => {
            let verdict = salvage::event(payload).map(|event| ledger.event(&event)).transpose()?.flatten();
            match version {
                Version::V21 => encoded(&v21::event_answer(verdict.as_ref())),
                Version::V16 | Version::V201 => encoded(&v201::event_answer(verdict.as_ref())),
            }
        }
        _ => {
            let (evse, transaction) = salvage::place(payload);
            if let Some(readings) = readings(payload) {
                ledger.meter_values(evse, transaction, &readings)?;
            }
            Ok(ByteString::from_static("{}"))
        }
    }
}
