package approval

import (
	"testing"

	"mailward/internal/testenv"
)

func TestQueries_Prepare(t *testing.T) {
	t.Parallel()
	testenv.PrepareQueries(t, queryFiles)
}
