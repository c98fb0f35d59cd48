/** The version of this Worker; that of the Python package it is shipped with. */
export const VERSION = "0.1.0";

/** The wire protocol, as it stands in paths (`/v1`) and in what is signed. */
export const PROTOCOL = 1;
