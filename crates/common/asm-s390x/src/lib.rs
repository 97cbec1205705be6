//! A small z/Architecture assembler for Cloister's own boot stages and guests.
