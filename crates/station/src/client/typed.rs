//! Which requests are billed.

use switchboard_messages::{Request, v16, v21, v201};

/// A request that is about a transaction, so that it must not get lost.
pub trait Billing: Request + sealed::Sealed {}

mod sealed {
    /// What is billed is fixed by the specification.
    pub trait Sealed {}
}

macro_rules! billing {
    ($($request:ty),+ $(,)?) => {
        $(impl sealed::Sealed for $request {} impl Billing for $request {})+
    };
}

billing!(
    v16::StartTransactionRequest,
    v16::MeterValuesRequest,
    v16::StopTransactionRequest,
    v201::TransactionEventRequest,
    v201::MeterValuesRequest,
    v21::TransactionEventRequest,
    v21::MeterValuesRequest,
);
