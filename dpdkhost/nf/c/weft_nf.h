/* weft_nf.h: a network function (NF) of weft's in C99, on Linux, with gcc or clang and nothing
 * else. An NF is a function that gets packets in batches and says of each what happens to it:
 *
 *	#include "weft_nf.h"
 *
 *	static void handle(struct weft_packet *batch, int n, void *user)
 *	{
 *		for (int i = 0; i < n; i++)
 *			weft_next(&batch[i]);
 *	}
 *
 *	int main(void) { return weft_run(handle, NULL); }
 *
 * Packets lie in memory that weft and all NFs share: nothing is copied. A packet about which
 * the function decides nothing is dropped. The protocol is described in weft's Go package
 * dpdkhost/nf. Include it in one file of the program.
 */
#ifndef WEFT_NF_H
#define WEFT_NF_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#ifdef __cplusplus
#error "weft_nf.h is C: compile the file that includes it as C"
#endif

/* ---- what an NF uses ------------------------------------------------------------------ */

/* A packet: an Ethernet frame that may be changed in place, up to its length. */
struct weft_packet {
	uint8_t *data;
	uint32_t length;
	uint16_t port;      /* by which it came in */
	uint8_t unfinished; /* the transport checksum is left to whoever sends it: it holds the
	                     * sum of the pseudo-header only */
	uint16_t segment;   /* payload of each segment of a super-frame (TSO); 0 for a plain packet */
	/* The rest is the library's. */
	uint32_t frame;
	uint16_t offset, to;
	uint8_t action, flags;
	uint8_t *begin, *end; /* of the frame */
};

/* Decides about n packets, at most 256. It may not keep them. */
typedef void (*weft_handler)(struct weft_packet *batch, int n, void *user);

/* Does what the words of "weft nf command" say and writes an answer for people, at most size
 * bytes with its 0. It returns 0, or something else if the answer is an error. */
typedef int (*weft_command)(int argc, char **argv, char *answer, size_t size, void *user);

enum { WEFT_DROP, WEFT_NEXT, WEFT_TO_NF, WEFT_OUT, WEFT_CLONE, WEFT_BUFFER, WEFT_CONTROLLER };

static inline void weft_drop(struct weft_packet *p) { p->action = WEFT_DROP; }
/* On to the next service of the packet's chain, or out of the chain's port. */
static inline void weft_next(struct weft_packet *p) { p->action = WEFT_NEXT; }
static inline void weft_to(struct weft_packet *p, uint16_t service) { p->action = WEFT_TO_NF; p->to = service; }
static inline void weft_out(struct weft_packet *p, uint16_t port) { p->action = WEFT_OUT; p->to = port; }
/* A copy to a service, and the packet to the next. */
static inline void weft_clone(struct weft_packet *p, uint16_t service) { p->action = WEFT_CLONE; p->to = service; }
static inline void weft_controller(struct weft_packet *p) { p->action = WEFT_CONTROLLER; }

/* Makes the packet longer, or with negative numbers shorter, at both ends. Returns 0 if there
 * is room; else the packet stays as it is. New bytes have any value. */
static inline int weft_resize(struct weft_packet *p, int front, int back);

/* Connects to the manager that started the program ($WEFT_NF) and lets the handler decide about
 * packets until it is asked to stop. Returns the exit status for main, after saying on standard
 * error what went wrong. */
static inline int weft_run(weft_handler handle, void *user);

/* The same for an NF that takes commands. */
static inline int weft_run_commands(weft_handler handle, weft_command command, void *user);

/* Shows a number under a name in weft's statistics; before weft_run, at most 64. Both stay
 * the caller's. */
static inline void weft_counter(const char *name, const uint64_t *value);

/* Asks, before weft_run, for packets as they are on a wire (checksums complete, super-frames cut),
 * or for memory that the NF cannot write. */
enum { WEFT_WIRE = 1, WEFT_READ_ONLY = 2 };
static inline void weft_ask(int what);

/* ---- the shared memory ---------------------------------------------------------------- */

/* The version of the NF protocol; a manager takes NFs of its own only. */
#define WEFT_PROTOCOL 1
#define WEFT_FRAME 2048u
#define WEFT_LARGE (68u << 10)
#define WEFT_BATCH 256
#define WEFT_HAS_VNET 1u /* flag: a struct virtio_net_hdr at the beginning of the frame */
#define WEFT_VNET_LEN 12u

struct weft_desc {
	uint32_t frame, length;
	uint16_t offset, to, port;
	uint8_t action, flags;
};

struct weft_ring_head {
	uint32_t tail;
	uint8_t pad1[124];
	uint32_t head;
	uint8_t pad2[124];
	uint32_t sleep;
	uint8_t pad3[124];
};

#define WEFT_ASSERT(name, what) typedef char weft_assert_##name[(what) ? 1 : -1]
WEFT_ASSERT(desc, sizeof(struct weft_desc) == 16 && offsetof(struct weft_desc, length) == 4 && offsetof(struct weft_desc, offset) == 8 &&
	offsetof(struct weft_desc, to) == 10 && offsetof(struct weft_desc, port) == 12 && offsetof(struct weft_desc, action) == 14 && offsetof(struct weft_desc, flags) == 15);
WEFT_ASSERT(ring, sizeof(struct weft_ring_head) == 384 && offsetof(struct weft_ring_head, head) == 128 && offsetof(struct weft_ring_head, sleep) == 256);

struct weft_ring {
	struct weft_ring_head *shared;
	struct weft_desc *slots;
	uint32_t mask, mine; /* this side's index */
};

struct weft_nf_state {
	int socket, event;
	uint8_t *memory;
	size_t memory_size;
	uint32_t frames, large;
	struct weft_ring receive, transmit;
	uint32_t *bell;
	uint64_t spin; /* ns */
	weft_handler handle;
	weft_command command;
	void *user;
	int stopping;
	struct { const char *name; const uint64_t *value; } counters[64];
	int counter_count;
	int asked;
};

/* One NF in a program: signal handlers have no other way to it. */
static struct weft_nf_state weft_nf = {.socket = -1};
static volatile sig_atomic_t weft_leaving, weft_called;

static inline void weft_ask(int what) { weft_nf.asked |= what; }

static inline void weft_counter(const char *name, const uint64_t *value)
{
	if (weft_nf.counter_count < 64) {
		weft_nf.counters[weft_nf.counter_count].name = name;
		weft_nf.counters[weft_nf.counter_count++].value = value;
	}
}

static inline int weft_resize(struct weft_packet *p, int front, int back)
{
	int64_t least = p->flags & WEFT_HAS_VNET ? WEFT_VNET_LEN : 0;
	int64_t offset = (int64_t)p->offset - front, length = (int64_t)p->length + front + back;
	if (offset < least || offset > UINT16_MAX || length < 0 || offset + length > p->end - p->begin)
		return -1;
	if (p->unfinished) { /* where the checksum begins moves with the packet */
		uint16_t start;
		memcpy(&start, p->begin + 6, 2);
		int64_t moved = (int64_t)start + front;
		if (moved < 0 || moved > length)
			return -1;
		start = (uint16_t)moved;
		memcpy(p->begin + 6, &start, 2);
	}
	p->offset = (uint16_t)offset;
	p->length = (uint32_t)length;
	p->data = p->begin + offset;
	return 0;
}

/* ---- rings ---------------------------------------------------------------------------- */

static inline int weft_futex(uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
	return (int)syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

static inline int weft_ring_bell(void)
{
	if (__atomic_load_n(weft_nf.bell, __ATOMIC_SEQ_CST) && __atomic_exchange_n(weft_nf.bell, 0, __ATOMIC_SEQ_CST)) {
		uint64_t one = 1;
		if (write(weft_nf.event, &one, sizeof one) < 0)
			return -1;
	}
	return 0;
}

static inline uint32_t weft_ring_free(const struct weft_ring *r)
{
	uint32_t used = r->mine - __atomic_load_n(&r->shared->head, __ATOMIC_ACQUIRE);
	return used > r->mask + 1 ? 0 : r->mask + 1 - used;
}

static inline int weft_packet_of(struct weft_packet *p, const struct weft_desc *d)
{
	uint64_t at, size;
	if (d->frame < weft_nf.frames) {
		at = (uint64_t)d->frame * WEFT_FRAME;
		size = WEFT_FRAME;
	} else if (d->frame - weft_nf.frames < weft_nf.large) {
		at = (uint64_t)weft_nf.frames * WEFT_FRAME + (uint64_t)(d->frame - weft_nf.frames) * WEFT_LARGE;
		size = WEFT_LARGE;
	} else {
		return -1;
	}
	if ((uint64_t)d->offset + d->length > size)
		return -1;
	p->begin = weft_nf.memory + at;
	p->end = p->begin + size;
	p->data = p->begin + d->offset;
	p->length = d->length;
	p->offset = d->offset;
	p->frame = d->frame;
	p->port = d->port;
	p->to = d->to;
	p->flags = d->flags;
	p->action = WEFT_DROP; /* what the NF before decided counts no more */
	p->unfinished = 0;
	p->segment = 0;
	if (d->flags & WEFT_HAS_VNET) {
		p->unfinished = p->begin[0] & 1; /* VIRTIO_NET_HDR_F_NEEDS_CSUM */
		if (p->begin[1])
			memcpy(&p->segment, p->begin + 4, 2);
	}
	return 0;
}

/* One batch. Returns how many packets there were. */
static inline int weft_turn(void)
{
	struct weft_ring *in = &weft_nf.receive, *out = &weft_nf.transmit;
	struct weft_packet batch[WEFT_BATCH];
	uint32_t ready = __atomic_load_n(&in->shared->tail, __ATOMIC_ACQUIRE) - in->mine;
	uint32_t room = weft_ring_free(out);
	if (ready > room)
		ready = room;
	if (ready > WEFT_BATCH)
		ready = WEFT_BATCH;
	int n = 0;
	for (uint32_t i = 0; i < ready; i++) {
		struct weft_desc d = in->slots[(in->mine + i) & in->mask];
		if (weft_packet_of(&batch[n], &d) == 0)
			n++;
	}
	in->mine += ready;
	__atomic_store_n(&in->shared->head, in->mine, __ATOMIC_RELEASE);
	if (n > 0)
		weft_nf.handle(batch, n, weft_nf.user);
	for (int i = 0; i < n; i++) {
		struct weft_desc *d = &out->slots[out->mine++ & out->mask];
		d->frame = batch[i].frame;
		d->length = batch[i].length;
		d->offset = batch[i].offset;
		d->to = batch[i].to;
		d->port = batch[i].port;
		d->action = batch[i].action;
		d->flags = batch[i].flags;
	}
	__atomic_store_n(&out->shared->tail, out->mine, __ATOMIC_SEQ_CST);
	return (int)ready;
}

/* ---- messages: JSON, of which only what weft sends is understood ----------------------- */

#define WEFT_MESSAGE 65536

/* Returns what follows "key": at the top of an object, NULL if it is not there. */
static inline const char *weft_json(const char *text, const char *key)
{
	int depth = 0;
	size_t n = strlen(key);
	for (const char *c = text; *c; c++) {
		if (*c == '{' || *c == '[')
			depth++;
		else if (*c == '}' || *c == ']')
			depth--;
		else if (*c == '"') {
			const char *name = c + 1;
			for (c++; *c && *c != '"'; c++)
				if (*c == '\\' && c[1])
					c++;
			if (!*c)
				return NULL;
			if (depth == 1 && (size_t)(c - name) == n && !memcmp(name, key, n) && c[1] == ':')
				return c + 2;
		}
	}
	return NULL;
}

static inline uint64_t weft_json_number(const char *text, const char *key)
{
	const char *at = weft_json(text, key);
	return at ? strtoull(at, NULL, 10) : 0;
}

/* Reads a JSON string in place; *next is what follows it. What is not ASCII but escaped becomes "?". */
static inline char *weft_json_string(char *at, char **next)
{
	if (*at != '"')
		return NULL;
	char *out = ++at, *begin = out;
	for (; *at && *at != '"'; at++) {
		if (*at != '\\' || !at[1]) {
			*out++ = *at;
			continue;
		}
		switch (*++at) {
		case 'n': *out++ = '\n'; break;
		case 't': *out++ = '\t'; break;
		case 'r': *out++ = '\r'; break;
		case 'b': *out++ = '\b'; break;
		case 'f': *out++ = '\f'; break;
		case 'u': {
			unsigned code = 0;
			int k = 0;
			for (; k < 4 && at[1]; k++, at++) {
				char c = at[1];
				code = code * 16 + (unsigned)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
			}
			*out++ = code > 0 && code < 128 ? (char)code : '?';
			break;
		}
		default: *out++ = *at;
		}
	}
	char *after = *at ? at + 1 : at;
	*out = 0;
	*next = after;
	return begin;
}

/* Appends to a text that begins at out and has size bytes. */
static inline void weft_append(char *out, size_t size, size_t *used, const char *text, int quoted)
{
	char c[8];
	if (quoted)
		weft_append(out, size, used, "\"", 0);
	for (; *text; text++) {
		if (quoted && (*text == '"' || *text == '\\'))
			snprintf(c, sizeof c, "\\%c", *text);
		else if (quoted && (unsigned char)*text < 32)
			snprintf(c, sizeof c, "\\u%04x", (unsigned)*text);
		else
			snprintf(c, sizeof c, "%c", *text);
		for (char *k = c; *k && *used + 1 < size; k++)
			out[(*used)++] = *k;
	}
	out[*used] = 0;
	if (quoted)
		weft_append(out, size, used, "\"", 0);
}

static inline void weft_send(const char *text)
{
	/* If the manager is gone, the next read says so. */
	if (send(weft_nf.socket, text, strlen(text), MSG_NOSIGNAL) < 0)
		return;
}

static inline void weft_answer(char *request)
{
	static char out[WEFT_MESSAGE], text[WEFT_MESSAGE / 8];
	size_t used = 0;
	char number[32];
	const char *command;
	snprintf(number, sizeof number, "%llu", (unsigned long long)weft_json_number(request, "id"));
	weft_append(out, sizeof out, &used, "{\"id\":", 0);
	weft_append(out, sizeof out, &used, number, 0);
	if (weft_json(request, "counters")) {
		weft_append(out, sizeof out, &used, ",\"counters\":{", 0);
		for (int i = 0; i < weft_nf.counter_count; i++) {
			if (i)
				weft_append(out, sizeof out, &used, ",", 0);
			weft_append(out, sizeof out, &used, weft_nf.counters[i].name, 1);
			snprintf(number, sizeof number, ":%llu", (unsigned long long)*weft_nf.counters[i].value);
			weft_append(out, sizeof out, &used, number, 0);
		}
		weft_append(out, sizeof out, &used, "}", 0);
	} else if ((command = weft_json(request, "command")) && weft_nf.command) {
		char *argv[64], *at = (char *)command;
		int argc = 0;
		while (*at && *at != ']' && argc < 63) {
			char *word = NULL;
			if (*at == '"')
				word = weft_json_string(at, &at);
			else
				at++;
			if (word)
				argv[argc++] = word;
		}
		argv[argc] = NULL;
		text[0] = 0;
		int bad = weft_nf.command(argc, argv, text, sizeof text, weft_nf.user);
		text[sizeof text - 1] = 0;
		weft_append(out, sizeof out, &used, bad ? ",\"error\":" : ",\"text\":", 0);
		weft_append(out, sizeof out, &used, text, 1);
	} else {
		weft_append(out, sizeof out, &used, ",\"error\":\"this NF takes no commands\"", 0);
	}
	weft_append(out, sizeof out, &used, "}", 0);
	weft_send(out);
}

/* Reads what the manager says. Returns -1 if it is gone. */
static inline int weft_listen(void)
{
	static char request[WEFT_MESSAGE + 1];
	weft_called = 0;
	for (;;) {
		ssize_t n = recv(weft_nf.socket, request, WEFT_MESSAGE, MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return 0;
		if (n <= 0)
			return -1;
		request[n] = 0;
		if (weft_json(request, "stop")) {
			weft_nf.stopping = 1;
			return 0;
		}
		weft_answer(request);
	}
}

/* ---- the connection ------------------------------------------------------------------- */

/* Wakes the NF whether it sleeps or is about to: the word that it waits for is not 1 any more. */
static inline void weft_signal(int number)
{
	if (number == SIGINT || number == SIGTERM)
		weft_leaving = 1;
	else
		weft_called = 1;
	if (weft_nf.receive.shared)
		__atomic_store_n(&weft_nf.receive.shared->sleep, 0, __ATOMIC_SEQ_CST);
}

static inline int weft_fail(const char *what)
{
	if (errno)
		fprintf(stderr, "nf: %s: %s\n", what, strerror(errno));
	else
		fprintf(stderr, "nf: %s\n", what);
	return 1;
}

static inline void *weft_map(int fd, int protection, size_t *size)
{
	struct stat s;
	int seals = fcntl(fd, 1034 /* F_GET_SEALS */);
	if (fstat(fd, &s) < 0 || seals < 0)
		return NULL;
	if (!(seals & 2 /* F_SEAL_SHRINK */)) { /* whoever made it could cut it off */
		errno = EPERM;
		return NULL;
	}
	*size = (size_t)s.st_size;
	void *at = mmap(NULL, *size, protection, MAP_SHARED | MAP_POPULATE, fd, 0);
	return at == MAP_FAILED ? NULL : at;
}

static inline int weft_open_rings(int fd)
{
	size_t size;
	uint8_t *at = weft_map(fd, PROT_READ | PROT_WRITE, &size);
	if (!at)
		return -1;
	size_t half = size / 2, slots = half < sizeof(struct weft_ring_head) + 16 ? 0 : (half - sizeof(struct weft_ring_head)) / sizeof(struct weft_desc);
	if (slots == 0 || (slots & (slots - 1))) {
		errno = EINVAL;
		return -1;
	}
	struct weft_ring *rings[2] = {&weft_nf.receive, &weft_nf.transmit};
	for (int i = 0; i < 2; i++) {
		rings[i]->slots = (struct weft_desc *)(at + half * (size_t)i + sizeof(struct weft_ring_head));
		rings[i]->mask = (uint32_t)slots - 1;
		rings[i]->shared = (struct weft_ring_head *)(at + half * (size_t)i);
	}
	weft_nf.receive.mine = __atomic_load_n(&weft_nf.receive.shared->head, __ATOMIC_SEQ_CST);
	weft_nf.transmit.mine = __atomic_load_n(&weft_nf.transmit.shared->tail, __ATOMIC_SEQ_CST);
	return 0;
}

static inline int weft_connect(void)
{
	const char *path = getenv("WEFT_NF"), *key = getenv("WEFT_NF_KEY"), *name = getenv("WEFT_NF_NAME"), *service = getenv("WEFT_NF_SERVICE");
	static char text[WEFT_MESSAGE + 1];
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t used = 0;
	errno = 0;
	if (!path || strlen(path) >= sizeof address.sun_path)
		return weft_fail("WEFT_NF is not set, or too long: a manager of weft's starts NFs, or set it to the path of a manager's socket, and WEFT_NF_SERVICE to the number of a service");
	strcpy(address.sun_path, path);
	weft_nf.socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (weft_nf.socket < 0 || connect(weft_nf.socket, (struct sockaddr *)&address, sizeof address) < 0)
		return weft_fail("connect to the NF manager");
	weft_append(text, sizeof text, &used, "{\"version\":", 0);
	char number[16];
	snprintf(number, sizeof number, "%d", WEFT_PROTOCOL);
	weft_append(text, sizeof text, &used, number, 0);
	weft_append(text, sizeof text, &used, ",\"key\":", 0);
	weft_append(text, sizeof text, &used, key ? key : "", 1);
	weft_append(text, sizeof text, &used, ",\"name\":", 0);
	weft_append(text, sizeof text, &used, name ? name : "", 1);
	weft_append(text, sizeof text, &used, ",\"service\":", 0);
	snprintf(number, sizeof number, "%d", service ? atoi(service) : 0);
	weft_append(text, sizeof text, &used, number, 0);
	if (weft_nf.asked & WEFT_WIRE)
		weft_append(text, sizeof text, &used, ",\"wire\":true", 0);
	if (weft_nf.asked & WEFT_READ_ONLY)
		weft_append(text, sizeof text, &used, ",\"readOnly\":true", 0);
	weft_append(text, sizeof text, &used, "}", 0);
	struct timeval patience = {.tv_sec = 10};
	setsockopt(weft_nf.socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	weft_send(text);

	union { struct cmsghdr align; char room[CMSG_SPACE(4 * sizeof(int))]; } control;
	struct iovec part = {text, WEFT_MESSAGE};
	struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(weft_nf.socket, &message, MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return weft_fail("the NF manager did not answer");
	text[n] = 0;
	errno = 0;
	char *why = (char *)weft_json(text, "error"), *next;
	if (why && (why = weft_json_string(why, &next)))
		return weft_fail(why);
	if (weft_json_number(text, "version") != WEFT_PROTOCOL) {
		static char other[256];
		snprintf(other, sizeof other, "the NF manager speaks version %llu of the NF protocol, and this is %d; renew weft_nf.h by weft nf new --library DIRECTORY, with the weft that runs the network, and build the NF again",
			 (unsigned long long)weft_json_number(text, "version"), WEFT_PROTOCOL);
		return weft_fail(other);
	}
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);
	int files[4];
	if (!c || c->cmsg_type != SCM_RIGHTS || c->cmsg_len != CMSG_LEN(sizeof files))
		return weft_fail("the NF manager did not send 4 files");
	memcpy(files, CMSG_DATA(c), sizeof files);
	weft_nf.frames = (uint32_t)weft_json_number(text, "frames");
	weft_nf.large = (uint32_t)weft_json_number(text, "large");
	weft_nf.spin = weft_json_number(text, "spin");
	const char *only = weft_json(text, "readOnly");
	int protection = only && !strncmp(only, "true", 4) ? PROT_READ : PROT_READ | PROT_WRITE;
	if (!(weft_nf.memory = weft_map(files[0], protection, &weft_nf.memory_size)))
		return weft_fail("packet memory");
	if ((uint64_t)weft_nf.frames * WEFT_FRAME + (uint64_t)weft_nf.large * WEFT_LARGE > weft_nf.memory_size)
		return weft_fail("the packet memory is smaller than the NF manager says");
	if (weft_open_rings(files[1]) < 0)
		return weft_fail("rings");
	size_t size;
	if (!(weft_nf.bell = weft_map(files[2], PROT_READ | PROT_WRITE, &size)))
		return weft_fail("doorbell");
	weft_nf.event = files[3];
	for (int i = 0; i < 3; i++)
		close(files[i]);
	return 0;
}

static inline uint64_t weft_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Sleeps until there are packets, or a signal, for a second at the most; then it looks for
 * messages too. */
static inline void weft_wait(void)
{
	uint32_t *word = &weft_nf.receive.shared->sleep;
	struct timespec second = {.tv_sec = 1};
	__atomic_store_n(word, 1, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&weft_nf.receive.shared->tail, __ATOMIC_SEQ_CST) == weft_nf.receive.mine && !weft_called && !weft_leaving)
		if (weft_futex(word, FUTEX_WAIT, 1, &second) < 0 && errno == ETIMEDOUT)
			weft_called = 1;
	__atomic_store_n(word, 0, __ATOMIC_SEQ_CST);
}

static inline int weft_run_commands(weft_handler handle, weft_command command, void *user)
{
	weft_nf.handle = handle;
	weft_nf.command = command;
	weft_nf.user = user;
	if (weft_connect())
		return 1;
	/* A message makes a signal, which ends a wait: so one thread is enough. */
	struct sigaction action = {.sa_handler = weft_signal};
	sigemptyset(&action.sa_mask);
	if (sigaction(SIGIO, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0 || sigaction(SIGINT, &action, NULL) < 0 ||
	    fcntl(weft_nf.socket, F_SETOWN, getpid()) < 0 || fcntl(weft_nf.socket, F_SETFL, fcntl(weft_nf.socket, F_GETFL) | O_ASYNC) < 0)
		return weft_fail("signals");
	weft_called = 1; /* a message may have come before */
	uint64_t idle = 0, leave = 0;
	for (;;) {
		if (weft_called && weft_listen() < 0) {
			errno = 0;
			return weft_fail("the NF manager is gone");
		}
		if (weft_nf.stopping)
			break;
		if (weft_leaving && !leave) {
			leave = weft_now();
			weft_leaving = 0;
			weft_send("{\"id\":0,\"leaving\":true}");
		}
		if (leave && weft_now() - leave > 2000000000u)
			break;
		if (weft_ring_free(&weft_nf.transmit) == 0) {
			struct timespec full = {.tv_nsec = 20000};
			weft_ring_bell();
			nanosleep(&full, NULL);
			continue;
		}
		if (weft_turn() > 0) {
			if (weft_nf.spin) {
				weft_ring_bell();
				idle = 0;
			}
			continue;
		}
		weft_ring_bell();
		if (weft_nf.spin) {
			uint64_t now = weft_now();
			if (!idle)
				idle = now;
			if (now - idle < weft_nf.spin)
				continue;
			idle = 0;
		}
		weft_wait();
	}
	while (weft_turn() > 0) /* an end without loss */
		;
	weft_ring_bell();
	return 0;
}

static inline int weft_run(weft_handler handle, void *user) { return weft_run_commands(handle, NULL, user); }

#endif
