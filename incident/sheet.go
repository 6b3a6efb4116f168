package incident

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// sheetSchema names the form of a [Sheet].
const sheetSchema = "mailward-incident-report/1"

// Sheet is what a report says, in the order in which the authority's form asks for
// it. What was handed in is kept as its JSON.
type Sheet struct {
	Schema   string       `json:"schema"`
	Incident string       `json:"incident"` // its number
	Stage    StageName    `json:"stage"`
	Law      string       `json:"law"`
	Regime   Regime       `json:"regime"`
	Exercise bool         `json:"exercise"`
	Version  int64        `json:"incident_version"`
	MadeAt   time.Time    `json:"made_at"`
	Fields   []SheetField `json:"fields" nullable:"false"`
	// Missing are the names of required fields that say nothing.
	Missing []string `json:"missing" nullable:"false"`
}

// SheetField is one field with its value: a text, a list of them or a number.
type SheetField struct {
	Name   string `json:"name"`
	Need   Need   `json:"need"`
	Screen string `json:"screen,omitempty" doc:"of the authority's form, as a third party maps it"`
	Value  any    `json:"value" doc:"null: nothing was said"`
}

// Sheet is what a report says now.
func (i Incident) Sheet(s StageName, now time.Time) Sheet {
	sheet := Sheet{Schema: sheetSchema, Incident: i.Number, Stage: s, Law: Case{Regime: i.Regime}.law(s), Regime: i.Regime, Exercise: i.Exercise, Version: i.Version, MadeAt: now.UTC(), Missing: i.Missing(s)}
	for _, f := range FieldsOf(i.Regime, s) {
		sheet.Fields = append(sheet.Fields, SheetField{Name: f.Name, Need: f.Need(s), Screen: f.Screen, Value: typed(f, i.Value(f))})
	}
	if sheet.Missing == nil {
		sheet.Missing = []string{}
	}
	return sheet
}

func typed(f Field, v string) any {
	switch {
	case v == "":
		return nil
	case f.Kind == Many:
		return strings.Fields(v)
	case f.Kind == Number:
		n, err := strconv.ParseInt(v, 10, 64)
		if err == nil {
			return n
		}
	}
	return v
}

// encode gives the bytes that are kept, and their SHA-256 in hexadecimal digits.
func (s Sheet) encode() (content []byte, sum string, err error) {
	if content, err = json.MarshalIndent(s, "", "  "); err != nil {
		return nil, "", fmt.Errorf("encode report: %w", err)
	}
	content = append(content, '\n')
	h := sha256.Sum256(content)
	return content, hex.EncodeToString(h[:]), nil
}
