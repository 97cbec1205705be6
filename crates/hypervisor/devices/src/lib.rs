//! Device models: SCLP, channel subsystem, virtio.
