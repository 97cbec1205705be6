//! Every byte layout that crosses between parties, one module per format.
