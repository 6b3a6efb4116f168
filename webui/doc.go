// Package webui is what people and programs see of Mailward over HTTP: the
// pages and the API.
//
// It stands at the end of a mail's path and never on it. It reads what the
// other packages know and calls what a person may do; it does not send mail
// and knows no SQL.
//
// One rule carries the pages: every view is a URL, every URL is a complete
// page, every act is a form that is posted. The script replaces parts of a
// page instead of the whole and is needed for nothing.
package webui
