//! virtio-rng.

use super::{Made, Request};
use cloister_devices::entropy::{EntropySource, SeededEntropy, SystemEntropy};
use cloister_devices::virtio::rng::Rng;

pub(super) fn make(request: &Request<'_>) -> Made {
    let source: Box<dyn EntropySource> = match request.defaults.seed {
        Some(seed) => Box::new(SeededEntropy::new(seed)),
        None => Box::new(SystemEntropy),
    };
    request.behind_ccw(Box::new(Rng::new(source)))
}
