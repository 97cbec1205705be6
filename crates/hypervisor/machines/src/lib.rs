//! Machines: s390-ccw-virtio.
