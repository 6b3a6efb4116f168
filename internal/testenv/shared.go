package testenv

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"mailward/internal/pg"
	"mailward/internal/standalone"
)

// sharedEnv names a folder that the test binaries of one run share and that goes
// with the run (scripts/with-tmp.sh), so that what lies there is never of other code.
const sharedEnv = "MAILWARD_TEST_SHARED"

// once makes a file or a folder once for all test binaries of a run, or, outside of
// a run, once for this one.
func (e *environment) once(name string, create func(path string) error) (string, error) {
	dir, err := e.sharedDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, name)
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return "", fmt.Errorf("open the lock of the shared %s: %w", name, err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("wait for the shared %s: %w", name, err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := create(path + ".new"); err != nil {
		return "", err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return "", fmt.Errorf("keep the shared %s: %w", name, err)
	}
	return path, nil
}

// Program builds one of our two programs and gives its path; the other one, when it
// is built too, lies beside it.
func Program(name string) (string, error) {
	return env.once(name, func(path string) error {
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "mailward/cmd/"+name)
		cgo := "CGO_ENABLED=0"
		if name == "mailward-scanner" {
			cgo = "CGO_ENABLED=1"
		}
		cmd.Env = append(os.Environ(), cgo)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", name, err, out)
		}
		return nil
	})
}

// Cluster gives an installation that has not started yet a migrated database. Its
// first start finds it as after a restore; the migrations would cost more than most
// tests do.
func Cluster(t testing.TB, dataDir string) {
	t.Helper()
	if err := env.copyCluster(dataDir); err != nil {
		t.Fatal(err)
	}
}

func (e *environment) copyCluster(dataDir string) error {
	made, err := e.once("cluster", e.makeCluster)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dataDir, 0o755); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	// With its owner, who is the database's user.
	if out, err := exec.Command("cp", "-a", made, filepath.Join(dataDir, "postgres")).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the shared cluster: %w: %s", err, out)
	}
	return nil
}

// makeCluster migrates a new cluster, stops it and leaves its files at path.
func (e *environment) makeCluster(path string) error {
	d, err := e.tempDir()
	if err != nil {
		return err
	}
	ctx := context.Background()
	s, err := standalone.Start(ctx, testConfig(standalone.Config{Postgres: true, DataDir: filepath.Join(d, "d")}))
	if err != nil {
		return err
	}
	_, err = pg.Migrate(ctx, s.AdminURL, pg.MigrateOptions{Version: "test"}, slog.New(slog.DiscardHandler))
	s.Stop(ctx)
	if err != nil {
		return errors.Join(errMigration, err)
	}
	if err := os.Rename(filepath.Join(d, "d", "postgres"), path); err != nil {
		return fmt.Errorf("take the files of the cluster: %w", err)
	}
	return nil
}
