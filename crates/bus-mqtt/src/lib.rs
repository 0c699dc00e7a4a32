//! The bus over MQTT: [`Mqtt`] for brokers of MQTT 5, and [`bare`] for MQTT 3.1.1 and AWS IoT Core.
//!
//! Calls go to `ocpp/v1/NS/call/PART/TENANT/STATION` at QoS 1, with the envelope's metadata as user properties and what
//! is left of the deadline as the message's expiry. Workers share one subscription, with clean sessions: what a dead one
//! had is handed over again by its gateway, and not kept by the broker for its return. A worker's acknowledgements are
//! its back-pressure: they go out when a call has been dealt with, and the broker sends no more than may be in hand.
//!
//! The packets are written and read here, not by a client library. The libraries there are put a channel, a task and a
//! copy of all headers around each message, write each packet by itself, do not say what the broker answered to which
//! publication, which is how a gateway learns that nobody listens, and send again after a reconnection what nobody waits
//! for any more. The codec of one of them is the judge of ours in the tests.

mod address;
pub mod bare;
mod bus;
mod hands;
mod line;
mod packet;
mod tls;

pub use bus::Mqtt;

use std::sync::Arc;
use switchboard_bus::{Bus, Connect, ConnectError};

/// The bus that the URL asks for: [`Bare`](bare::Bare) with `?mode=bare`, else [`Mqtt`].
///
/// # Errors
/// When this configuration can never work, also because of a parameter that is not known.
pub fn connect(connect: Connect) -> Result<Arc<dyn Bus>, ConnectError> {
    let endpoints = connect.endpoints(&bus::SCHEMES)?;
    let mut is_bare = false;
    for endpoint in &endpoints {
        let fault = |reason: String| ConnectError::Url { url: endpoint.to_string(), reason };
        let is_its = endpoint.parameter("mode") == Some("bare");
        for (name, value) in &endpoint.query {
            match (name.as_str(), value.as_str()) {
                ("mode", "bare") => {}
                ("idempotent", "true" | "false") if is_its => {}
                ("idempotent", "true" | "false") => {
                    return Err(fault(
                        "idempotent=… is for mode=bare; elsewhere a repeat is always known".to_owned(),
                    ));
                }
                _ => {
                    let known = "mode=bare, and with it idempotent=true or idempotent=false";
                    return Err(fault(format!("{name}={value} is not known; what is: {known}")));
                }
            }
        }
        is_bare |= is_its;
    }
    Ok(if is_bare { Arc::new(bare::Bare::connect(connect)?) } else { Arc::new(Mqtt::connect(connect)?) })
}
