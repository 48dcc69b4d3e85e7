//! A model of remapping hardware.
