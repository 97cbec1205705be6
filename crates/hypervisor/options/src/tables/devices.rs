//! Devices that `-device` can add.
//!
//! Only what can be written on the command line: the defaults are those of the device models.

use crate::catalogue::DeviceType;
use crate::schema::{Key, Kind};

/// Properties of every virtio device on the channel subsystem (virtio 1.2, 4.3).
macro_rules! virtio_ccw_keys {
    ($($more:expr),* $(,)?) => {
        &[
            $($more,)*
            Key::new("devno", Kind::DeviceNumber, "Device number, for example fe.0.0001"),
            Key::new("event_idx", Kind::Bool, "Offer VIRTIO_F_EVENT_IDX").default("true"),
            Key::new("indirect_desc", Kind::Bool, "Offer VIRTIO_F_INDIRECT_DESC").default("true"),
            Key::new("ioeventfd", Kind::Bool, "Take notifications without an exit").default("true"),
            Key::new(
                "iommu_platform",
                Kind::Bool,
                "Offer VIRTIO_F_ACCESS_PLATFORM: the device sees only what the guest shares; on by default for a confidential guest",
            )
            .default("false"),
            Key::new("max_revision", Kind::Unsigned(32), "Highest virtio-ccw revision").default("2"),
            Key::new("notify_on_empty", Kind::Bool, "Offer VIRTIO_F_NOTIFY_ON_EMPTY").default("true"),
            Key::new("packed", Kind::Bool, "Offer VIRTIO_F_RING_PACKED").default("false"),
            Key::new("queue_reset", Kind::Bool, "Offer VIRTIO_F_RING_RESET").default("true"),
        ]
    };
}

/// What follows an error of the host's disk.
const ON_ERROR: Kind = Kind::Choice(&["report", "ignore", "enospc", "stop", "auto"]);

const BLK: &[Key] = virtio_ccw_keys!(
    Key::new("bootindex", Kind::Signed, "Place in the order of boot devices"),
    Key::new("config-wce", Kind::Bool, "Let the guest choose the cache mode").default("true"),
    Key::new("cyls", Kind::Unsigned(32), "Cylinders that the guest reads").default("0"),
    Key::new("discard", Kind::Bool, "Offer VIRTIO_BLK_F_DISCARD").default("true"),
    Key::new("discard_granularity", Kind::Size, "Smallest piece that a discard frees").default("4294967295"),
    Key::new("drive", Kind::Text, "Node name or ID of a block device to use as a backend"),
    Key::new("heads", Kind::Unsigned(32), "Heads that the guest reads").default("0"),
    Key::new("logical_block_size", Kind::Size, "A power of two between 512 B and 2 MiB").default("0"),
    Key::new("max-discard-sectors", Kind::Unsigned(32), "Most sectors of one discard").default("4194303"),
    Key::new("max-write-zeroes-sectors", Kind::Unsigned(32), "Most sectors of one write of zeros")
        .default("4194303"),
    Key::new("min_io_size", Kind::Size, "Best multiple for a request").default("0"),
    Key::new("num-queues", Kind::Unsigned(16), "Number of queues").default("1"),
    Key::new("opt_io_size", Kind::Size, "Best length of a request").default("0"),
    Key::new("physical_block_size", Kind::Size, "A power of two between 512 B and 2 MiB").default("0"),
    Key::new("queue-size", Kind::Unsigned(16), "Requests per queue").default("256"),
    Key::new("request-merging", Kind::Bool, "Accepted").default("true"),
    Key::new("rerror", ON_ERROR, "Error handling policy, report/ignore/enospc/stop/auto").default("auto"),
    Key::new("scsi", Kind::Bool, "SCSI pass-through, always off").default("false"),
    Key::new("secs", Kind::Unsigned(32), "Sectors of a track that the guest reads").default("0"),
    Key::new("seg-max-adjust", Kind::Bool, "Let seg_max follow the queue size").default("true"),
    Key::new("serial", Kind::Text, "Serial number that the guest reads"),
    Key::new("share-rw", Kind::Bool, "Allow other writers of the image").default("false"),
    Key::new("werror", ON_ERROR, "Error handling policy, report/ignore/enospc/stop/auto").default("auto"),
    Key::new("write-cache", Kind::OnOffAuto, "Tell the guest about a write cache").default("auto"),
    Key::new("write-zeroes", Kind::Bool, "Offer VIRTIO_BLK_F_WRITE_ZEROES").default("true"),
);

const RNG: &[Key] = virtio_ccw_keys!(
    Key::new("max-bytes", Kind::Unsigned(64), "Bytes that the guest gets per period")
        .default("9223372036854775807"),
    Key::new("period", Kind::Unsigned(32), "Length of the period in milliseconds").default("65536"),
    Key::new("rng", Kind::Link("rng-backend"), "Id of the object that makes random bytes"),
);

/// What a device and its backend would do for each other (checksums, segments) is not offered: backends take plain
/// packets. The switches are accepted, as managers write them.
const NET: &[Key] = virtio_ccw_keys!(
    Key::new("bootindex", Kind::Signed, "Place in the order of boot devices"),
    Key::new("csum", Kind::Bool, "Let the guest leave checksums out; not offered").default("true"),
    Key::new("ctrl_mac_addr", Kind::Bool, "Let the guest change its address").default("true"),
    Key::new("ctrl_rx", Kind::Bool, "Let the guest choose what it receives").default("true"),
    Key::new("ctrl_rx_extra", Kind::Bool, "Let the guest choose more finely").default("true"),
    Key::new("ctrl_vlan", Kind::Bool, "Let the guest choose VLANs").default("true"),
    Key::new("ctrl_vq", Kind::Bool, "Offer the control queue").default("true"),
    Key::new("gso", Kind::Bool, "Let the guest send segments; not offered").default("true"),
    Key::new("guest_announce", Kind::Bool, "Ask the guest to announce itself; not offered").default("true"),
    Key::new("guest_csum", Kind::Bool, "Leave checksums out for the guest; not offered").default("true"),
    Key::new("guest_tso4", Kind::Bool, "Give the guest segments; not offered").default("true"),
    Key::new("guest_tso6", Kind::Bool, "Give the guest segments; not offered").default("true"),
    Key::new("guest_ecn", Kind::Bool, "Give the guest segments with ECN; not offered").default("true"),
    Key::new("guest_ufo", Kind::Bool, "Give the guest fragments; not offered").default("true"),
    Key::new("host_tso4", Kind::Bool, "Take segments from the guest; not offered").default("true"),
    Key::new("host_tso6", Kind::Bool, "Take segments from the guest; not offered").default("true"),
    Key::new("host_ecn", Kind::Bool, "Take segments with ECN from the guest; not offered").default("true"),
    Key::new("host_ufo", Kind::Bool, "Take fragments from the guest; not offered").default("true"),
    Key::new("host_mtu", Kind::Unsigned(16), "Tell the guest this largest packet; 0 leaves it to the guest")
        .default("0"),
    Key::new("mac", Kind::Text, "Ethernet address, for example 52:54:00:12:34:56"),
    Key::new("mq", Kind::Bool, "Offer several pairs of queues; not offered").default("false"),
    Key::new("mrg_rxbuf", Kind::Bool, "Spread a packet over several buffers").default("true"),
    Key::new("netdev", Kind::Text, "Id of the -netdev behind the device"),
    Key::new("rx_queue_size", Kind::Unsigned(16), "Buffers for received packets, a power of two")
        .default("256"),
    Key::new("status", Kind::Bool, "Tell the guest whether the cable is plugged in").default("true"),
    Key::new("tx", Kind::Text, "timer or bh; accepted"),
    Key::new("tx_queue_size", Kind::Unsigned(16), "Packets to be sent; always 256").default("256"),
);

const VFIO_CCW: &[Key] = &[
    Key::new("devno", Kind::DeviceNumber, "Device number, for example fe.0.0001"),
    Key::new("force-orb-pfch", Kind::Bool, "Prefetch without the guest's leave").default("false"),
    Key::new("sysfsdev", Kind::Text, "Path of the host's device").required(),
];

const VFIO_AP: &[Key] = &[Key::new("sysfsdev", Kind::Text, "Path of the host's device").required()];

const VFIO_PCI: &[Key] = &[
    Key::new("host", Kind::Text, "Address of the host's device"),
    Key::new("sysfsdev", Kind::Text, "Path of the host's device"),
];

const SCLP_CONSOLE: &[Key] = &[Key::new("chardev", Kind::Text, "ID of a chardev to use as a backend")];

const SCLP_LINE_CONSOLE: &[Key] = &[
    Key::new("chardev", Kind::Text, "ID of a chardev to use as a backend"),
    Key::new("echo", Kind::Bool, "Show the operator's input as well").default("true"),
    Key::new("write_errors", Kind::Unsigned(32), "Lines that could not be written").default("0"),
];

const SERIAL: &[Key] = virtio_ccw_keys!(
    Key::new("emergency-write", Kind::Bool, "Offer VIRTIO_CONSOLE_F_EMERG_WRITE").default("true"),
    Key::new("max_ports", Kind::Unsigned(32), "Most ports; at most 31").default("31"),
);

const PORT: &[Key] = &[
    Key::new("chardev", Kind::Text, "ID of a chardev to use as a backend"),
    Key::new("name", Kind::Text, "Name for the guest, for example org.qemu.guest_agent.0"),
    Key::new("nr", Kind::Unsigned(32), "Number of the port; without one the lowest that is free")
        .default("4294967295"),
];

const BALLOON: &[Key] = virtio_ccw_keys!(
    Key::new("deflate-on-oom", Kind::Bool, "Let the guest take memory back when it has none left")
        .default("false"),
    Key::new("free-page-hint", Kind::Bool, "Hints for migration; not offered").default("false"),
    Key::new("free-page-reporting", Kind::Bool, "Reports of free pages; not offered").default("false"),
    Key::new("page-poison", Kind::Bool, "Offer VIRTIO_BALLOON_F_PAGE_POISON").default("true"),
);

/// Every device of this table.
pub(crate) fn devices() -> Vec<DeviceType> {
    let virtio = |name, alias, inner, class, keys, doc| DeviceType {
        name,
        alias: Some(alias),
        inner,
        class,
        bus: "virtual-css-bus",
        keys,
        doc,
        pass_through: false,
    };
    let vfio = |name, bus, keys| DeviceType {
        name,
        alias: None,
        inner: name,
        class: "Pass-through",
        bus,
        keys,
        doc: "a device of the host; needs real hardware below",
        pass_through: true,
    };
    let console = |name, keys, doc| DeviceType {
        name,
        alias: None,
        inner: name,
        class: "Input",
        bus: "s390-sclp-events-bus",
        keys,
        doc,
        pass_through: false,
    };
    let port = |name, doc| DeviceType {
        name,
        alias: None,
        inner: name,
        class: "Input",
        bus: "virtio-serial-bus",
        keys: PORT,
        doc,
        pass_through: false,
    };
    let watchdog = DeviceType {
        name: "diag288",
        alias: None,
        inner: "diag288",
        class: "Watchdog",
        bus: "",
        keys: &[],
        doc: "diag288 device for s390x platform",
        pass_through: false,
    };
    vec![
        port("virtconsole", "a console of a virtio-serial device"),
        port("virtserialport", "a channel of a virtio-serial device"),
        virtio(
            "virtio-balloon-ccw",
            "virtio-balloon",
            "virtio-balloon-device",
            "Misc",
            BALLOON,
            "memory that the guest gives back",
        ),
        virtio(
            "virtio-serial-ccw",
            "virtio-serial",
            "virtio-serial-device",
            "Input",
            SERIAL,
            "consoles and channels",
        ),
        watchdog,
        virtio("virtio-blk-ccw", "virtio-blk", "virtio-blk-device", "Storage", BLK, "disk"),
        console("sclpconsole", SCLP_CONSOLE, "the guest's console"),
        console("sclplmconsole", SCLP_LINE_CONSOLE, "the console that takes whole lines; output only"),
        virtio("virtio-net-ccw", "virtio-net", "virtio-net-device", "Network", NET, "network device"),
        virtio("virtio-rng-ccw", "virtio-rng", "virtio-rng-device", "Misc", RNG, "source of random bytes"),
        vfio("vfio-ap", "ap-bus", VFIO_AP),
        vfio("vfio-ccw", "virtual-css-bus", VFIO_CCW),
        vfio("vfio-pci", "PCI", VFIO_PCI),
    ]
}
