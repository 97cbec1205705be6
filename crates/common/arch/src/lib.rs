//! Architecture vocabulary that both doors speak: plain data, no behaviour.
