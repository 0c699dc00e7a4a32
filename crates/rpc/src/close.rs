//! The WebSocket close codes that we use (RFC 6455, 7.4.1). OCPP says nothing about them, and most stations ignore them.

/// The end as planned.
pub const NORMAL: u16 = 1000;
/// This node goes away: connect again (L05).
pub const GOING_AWAY: u16 = 1001;
/// The peer broke the protocol: too many bad frames (F15), no subprotocol (H03), compression without negotiation (F17).
pub const PROTOCOL_ERROR: u16 = 1002;
/// A binary message where only text is borne (F09).
pub const UNSUPPORTED: u16 = 1003;
/// Text that is not UTF-8 (F10).
pub const NOT_UTF8: u16 = 1007;
/// A newer connection of the same station took over (L01), or a rule of ours was broken.
pub const POLICY: u16 = 1008;
/// A message larger than the limit (F10).
pub const TOO_BIG: u16 = 1009;
/// We failed.
pub const INTERNAL_ERROR: u16 = 1011;
/// Processing is away: try later, and keep what you have (S03).
pub const TRY_LATER: u16 = 1013;

/// How many bytes a reason may have: a control frame holds 125, two of them are the code.
pub const REASON_BYTES_MAX: usize = 123;

/// Cuts a reason to [`REASON_BYTES_MAX`] bytes, at a character boundary.
#[must_use]
pub fn cut_reason(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_BYTES_MAX)).unwrap_or(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_a_control_frame_and_stays_text() {
        assert_eq!(cut_reason("short"), "short");
        let long = "é".repeat(100);
        assert_eq!(cut_reason(&long), "é".repeat(61));
    }
}
