//! What a driver wants to receive (virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3).

use serde::{Deserialize, Serialize};

use crate::virtio::ByteOrder;

/// Addresses that are kept; a driver that gives more receives all of their kind.
const ADDRESSES: usize = 64;
/// Numbers of VLANs.
const VLANS: u16 = 4096;

/// The receive filter. At first everything passes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    promiscuous: bool,
    all_multicast: bool,
    all_unicast: bool,
    no_multicast: bool,
    no_unicast: bool,
    no_broadcast: bool,
    unicast: Table,
    multicast: Table,
    /// One bit each; `None`: all of them.
    vlans: Option<Vec<u64>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Table {
    addresses: Vec<[u8; 6]>,
    /// There were more.
    overflow: bool,
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            promiscuous: true,
            all_multicast: false,
            all_unicast: false,
            no_multicast: false,
            no_unicast: false,
            no_broadcast: false,
            unicast: Table::default(),
            multicast: Table::default(),
            vlans: None,
        }
    }
}

impl Filter {
    /// The driver is ready; one that chooses VLANs begins with none.
    pub(super) fn choose(&mut self, vlans: bool) {
        if vlans && self.vlans.is_none() {
            self.vlans = Some(vec![0; usize::from(VLANS) / 64]);
        }
    }

    /// A command of class 0.
    pub(super) fn mode(&mut self, command: u8, data: &[u8]) -> bool {
        let &[on] = data else { return false };
        let place = match command {
            0 => &mut self.promiscuous,
            1 => &mut self.all_multicast,
            2 => &mut self.all_unicast,
            3 => &mut self.no_multicast,
            4 => &mut self.no_unicast,
            _ => &mut self.no_broadcast,
        };
        *place = on != 0;
        true
    }

    /// Two tables of addresses, each after its number of entries; nothing changes if they are broken.
    pub(super) fn tables(&mut self, order: ByteOrder, data: &[u8]) -> bool {
        let Some((unicast, rest)) = table(order, data) else { return false };
        let Some((multicast, [])) = table(order, rest) else { return false };
        (self.unicast, self.multicast) = (unicast, multicast);
        true
    }

    pub(super) fn vlan(&mut self, id: u16, on: bool) -> bool {
        if id >= VLANS {
            return false;
        }
        if let Some(word) = self.vlans.as_mut().and_then(|vlans| vlans.get_mut(usize::from(id / 64))) {
            let bit = 1 << (id % 64);
            *word = if on { *word | bit } else { *word & !bit };
        }
        true
    }

    pub(super) fn accepts(&self, packet: &[u8], own: [u8; 6]) -> bool {
        if self.promiscuous {
            return true;
        }
        let Some(to) = packet.first_chunk::<6>() else { return false };
        if let (Some([0x81, 0x00, high, low]), Some(vlans)) = (packet.get(12..16), &self.vlans) {
            let id = u16::from_be_bytes([*high, *low]) & (VLANS - 1);
            if vlans.get(usize::from(id / 64)).is_none_or(|word| word >> (id % 64) & 1 == 0) {
                return false;
            }
        }
        if *to == [0xff; 6] {
            !self.no_broadcast
        } else if to[0] & 1 == 1 {
            !self.no_multicast && (self.all_multicast || self.multicast.holds(to))
        } else {
            !self.no_unicast && (self.all_unicast || *to == own || self.unicast.holds(to))
        }
    }
}

impl Table {
    fn holds(&self, address: &[u8; 6]) -> bool {
        self.overflow || self.addresses.contains(address)
    }
}

fn table(order: ByteOrder, data: &[u8]) -> Option<(Table, &[u8])> {
    let (count, rest) = data.split_first_chunk::<4>()?;
    let length = (order.u32(*count) as usize).checked_mul(6)?;
    let (entries, rest) = rest.split_at_checked(length)?;
    let (addresses, _) = entries.as_chunks::<6>();
    let overflow = addresses.len() > ADDRESSES;
    let addresses = if overflow { Vec::new() } else { addresses.to_vec() };
    Some((Table { addresses, overflow }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];

    fn packet(to: [u8; 6], tag: Option<u16>) -> Vec<u8> {
        let mut packet = [&to[..], &[2; 6]].concat();
        match tag {
            Some(id) => packet.extend([0x81, 0, (id >> 8) as u8, id as u8]),
            None => packet.extend([8, 0]),
        }
        packet.resize(60, 0);
        packet
    }

    #[test]
    fn virtio_1_2_5_1_6_5_1_modes_decide_what_passes() {
        let (other, group, all) = ([0x52, 0, 0, 0, 0, 9], [0x33, 0x33, 0, 0, 0, 1], [0xff; 6]);
        let mut filter = Filter::default();
        let passes = |filter: &Filter, to| filter.accepts(&packet(to, None), OWN);
        assert!(passes(&filter, other) && passes(&filter, group), "everything passes at first");
        assert!(filter.mode(0, &[0]));
        assert_eq!([OWN, other, group, all].map(|to| passes(&filter, to)), [true, false, false, true]);
        filter.mode(1, &[1]);
        filter.mode(2, &[1]);
        assert!(passes(&filter, other) && passes(&filter, group));
        filter.mode(3, &[1]);
        filter.mode(4, &[1]);
        filter.mode(5, &[1]);
        assert_eq!([OWN, other, group, all].map(|to| passes(&filter, to)), [false; 4]);
        assert!(!filter.mode(0, &[]) && !filter.mode(0, &[1, 1]));
    }

    #[test]
    fn virtio_1_2_5_1_6_5_2_tables_name_addresses_and_overflow_to_all() {
        let mut filter = Filter::default();
        filter.mode(0, &[0]);
        let (one, group) = ([0x52, 0, 0, 0, 0, 9], [0x33, 0x33, 0, 0, 0, 1]);
        let data = [&1_u32.to_le_bytes()[..], &one, &1_u32.to_le_bytes(), &group].concat();
        assert!(filter.tables(ByteOrder::Little, &data));
        assert!(filter.accepts(&packet(one, None), OWN) && filter.accepts(&packet(group, None), OWN));
        assert!(!filter.accepts(&packet([0x52, 0, 0, 0, 0, 8], None), OWN));
        let before = filter.clone();
        assert!(!filter.tables(ByteOrder::Little, &data[..15]));
        assert!(!filter.tables(ByteOrder::Little, &[0xff; 8]));
        assert_eq!(filter, before);
        let many = [&65_u32.to_be_bytes()[..], &[2; 65 * 6], &0_u32.to_be_bytes()].concat();
        assert!(filter.tables(ByteOrder::Big, &many));
        assert!(filter.accepts(&packet([0x52, 0, 0, 0, 0, 8], None), OWN));
    }

    #[test]
    fn virtio_1_2_5_1_6_5_3_vlans_pass_once_they_are_added() {
        let mut filter = Filter::default();
        filter.choose(true);
        filter.mode(0, &[0]);
        assert!(filter.accepts(&packet(OWN, None), OWN));
        assert!(!filter.accepts(&packet(OWN, Some(0x7007)), OWN));
        assert!(filter.vlan(7, true) && filter.accepts(&packet(OWN, Some(0x7007)), OWN));
        assert!(filter.vlan(7, false) && !filter.accepts(&packet(OWN, Some(7)), OWN));
        assert!(!filter.vlan(4096, true));
    }

    proptest! {
        #[test]
        fn no_command_and_no_packet_panics(
            data in prop::collection::vec(any::<u8>(), 0..200),
            id in any::<u16>(),
            command in 0..8_u8,
        ) {
            let mut filter = Filter::default();
            filter.choose(true);
            filter.mode(command, &data);
            filter.mode(0, &[0]);
            filter.tables(ByteOrder::Little, &data);
            filter.vlan(id, true);
            filter.accepts(&data, OWN);
        }
    }
}
