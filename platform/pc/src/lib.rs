//! A bare PC.
#![no_std]
