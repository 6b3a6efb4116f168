package cape

import (
	"bytes"
	"fmt"
	"mime/multipart"
	"path"
	"strings"
)

// form is the body of a submission. CAPE reads nothing but multipart/form-data.
func form(f File, custom string) (body []byte, contentType string, err error) {
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err = w.WriteField("custom", clip(custom, 255)); err != nil {
		return nil, "", fmt.Errorf("cape: build form: %w", err)
	}
	part, err := w.CreateFormFile("file", f.Name)
	if err == nil {
		_, err = part.Write(f.Data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, "", fmt.Errorf("cape: build form: %w", err)
	}
	return b.Bytes(), w.FormDataContentType(), nil
}

// FileName is what a file is called there: its hash, and the ending that CAPE
// goes by. The name itself may tell who gets the mail, so it stays here.
func FileName(sha256, name string) string {
	ext := strings.ToLower(path.Ext(name))
	if len(ext) < 2 || len(ext) > 12 || strings.Trim(ext[1:], "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		ext = ""
	}
	return sha256[:min(16, len(sha256))] + ext
}
