//! The launch session: the guest owner's transport keys, wrapped for one platform.
//!
//! The key schedule is: Z = ECDH x coordinate, 48 bytes big-endian; master = KDF(Z, [`MASTER_SECRET_LABEL`], nonce);
//! KEK = KDF(master, [`KEK_LABEL`], empty); KIK = KDF(master, [`KIK_LABEL`], empty), each of 128 bits. Then
//! wrap_tk = AES-128-CTR(KEK, wrap_iv; TEK ‖ TIK), wrap_mac = HMAC-SHA256(KIK, wrap_tk) and
//! policy_mac = HMAC-SHA256(TIK, LE32 policy).

use super::layout::layout;

/// Label of the master secret.
pub const MASTER_SECRET_LABEL: &[u8] = b"sev-master-secret";
/// Label of the key encryption key.
pub const KEK_LABEL: &[u8] = b"sev-kek";
/// Label of the key integrity key.
pub const KIK_LABEL: &[u8] = b"sev-kik";

layout! {
    /// A session, 128 bytes.
    Session, 128, "SEV launch session" {
        /// Context of the master secret.
        nonce: [u8; 16] = 0,
        /// The wrapped keys: TEK, then TIK.
        wrap_tk: [u8; 32] = 16,
        /// Counter of the wrapping.
        wrap_iv: [u8; 16] = 48,
        /// MAC over the wrapped keys.
        wrap_mac: [u8; 32] = 64,
        /// MAC over the policy.
        policy_mac: [u8; 32] = 96,
    }
}
