//! What monitors may do to the block layer of the machine.

use super::S390Ccw;
use crate::blocks::Blocks;
use cloister_control::ControlError;
use cloister_options::Blockdev;

impl S390Ccw {
    pub(super) fn blocks_layer(&self) -> &Blocks {
        &self.host.blocks
    }

    pub(super) fn add_node(&self, blockdev: Blockdev) -> Result<(), ControlError> {
        let drives: Vec<_> = self.drives.iter().filter_map(|drive| drive.id.as_deref()).collect();
        self.blocks_layer().add(blockdev, &drives)
    }

    pub(super) fn resize_image(
        &self,
        device: Option<&str>,
        node: Option<&str>,
        size: u64,
    ) -> Result<(), ControlError> {
        let attached = self.attached();
        let mut disks = attached.iter().filter_map(|device| device.block.as_ref());
        let of_device = device
            .filter(|device| !device.is_empty())
            .and_then(|name| disks.find(|disk| disk.device() == name).map(|disk| disk.node().to_owned()));
        drop(attached);
        let known = |name: &&str| self.blocks_layer().specs().iter().any(|spec| spec.name == *name);
        match of_device.or_else(|| node.filter(known).map(str::to_owned)) {
            Some(root) => self.blocks_layer().resize(&root, size),
            None => Err(ControlError::new(format!(
                "Cannot find device='{}' nor node-name='{}'",
                device.unwrap_or_default(),
                node.unwrap_or_default()
            ))),
        }
    }
}
