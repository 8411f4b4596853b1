"use strict";
// The pages' templates were made functions on the server (api/dashboard_pages.py); here they are found by name.
window.rqEscape = (value) => window._.escape(String(value ?? ""));
window._.template = (name) => window.rqTemplates[name.trim()];
