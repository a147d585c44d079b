package s3test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// Kind is a server program.
type Kind struct {
	Name    string
	pkg     string // what go install builds
	version string
	env     func(accessKey, secretKey string) []string
	args    func(address, dir string) []string
}

// Versitygw keeps objects as plain files; it is what depotfs-store embeds.
var Versitygw = Kind{
	Name: "versitygw", pkg: "github.com/versity/versitygw/cmd/versitygw", version: "v1.8.0",
	env: func(accessKey, secretKey string) []string {
		return []string{"ROOT_ACCESS_KEY_ID=" + accessKey, "ROOT_SECRET_ACCESS_KEY=" + secretKey}
	},
	args: func(address, dir string) []string {
		return []string{"--port", address, "--keep-alive", "--quiet", "posix", dir}
	},
}

// MinIO is the store that most private clouds have.
var MinIO = Kind{
	Name: "minio", pkg: "github.com/minio/minio", version: "v0.0.0-20260212201848-7aac2a2c5b7c",
	env: func(accessKey, secretKey string) []string {
		return []string{
			"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey, "MINIO_UPDATE=off", "MINIO_BROWSER=off",
		}
	},
	args: func(address, dir string) []string { return []string{"server", "--quiet", "--address", address, dir} },
}

// Kinds are all servers that the contract is tested on.
var Kinds = []Kind{Versitygw, MinIO}

// tools is where programs are kept.
func tools() (string, error) {
	if dir := os.Getenv("DEPOTFS_TOOLS"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "depotfs", "tools"), nil
}

// Build returns the program's path, and builds it first where it is missing,
// which takes minutes.
func Build(t testing.TB, kind Kind) string {
	t.Helper()
	path, err := build(t, kind)
	if err != nil {
		t.Fatalf("build %s %s: %v", kind.Name, kind.version, err)
	}
	return path
}

func build(t testing.TB, kind Kind) (string, error) {
	root, err := tools()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, kind.Name+"@"+kind.version)
	path := filepath.Join(dir, kind.Name)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	if _, err := os.Stat(path); err == nil {
		return path, nil // somebody else has built it meanwhile
	}
	t.Logf("building %s %s, once; this takes minutes", kind.Name, kind.version)
	// Into a directory of its own: a build that is killed leaves no half program.
	fresh, err := os.MkdirTemp(dir, "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(fresh)
	install := exec.CommandContext(t.Context(), "go", "install", kind.pkg+"@"+kind.version)
	install.Dir = fresh // outside of any module
	install.Env = append(os.Environ(), "GOBIN="+fresh, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := install.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go install: %w\n%s", err, out)
	}
	if err := os.Rename(filepath.Join(fresh, kind.Name), path); err != nil {
		return "", err
	}
	return path, nil
}
