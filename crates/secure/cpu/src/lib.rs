//! What all CPU cores share: software TLB, code cache, clock, rendezvous between CPUs.
