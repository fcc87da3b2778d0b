from datetime import timedelta

from dist_test.model.job import Job
from dist_test.model.outcome import Outcome
from dist_test.model.task import QueueEntry, Task
from dist_test.storage.claims import Claim, Claims, Refusal
from dist_test.storage.database import Database
from dist_test.storage.finishes import Finishes, Result
from dist_test.storage.jobs import Jobs
from dist_test.storage.queue import Queue, Queues
from dist_test.master.service import Service
import pytest, time

def test_walk(database: Database, queue: Queue, beanstalk_settings) -> None:
    from types import SimpleNamespace
    qs = Queues(beanstalk_settings)
    service = Service(SimpleNamespace(submit_lease=timedelta(seconds=5)), database, qs)
    tasks = tuple(Task(isolate_hash="a"*40, description=f"t{i}", max_retries=1) for i in range(10000))
    t=time.time()
    record, created = service.submit(Job(job_id="j", tasks=tasks, owner="me"))
    print("submit", time.time()-t)
    assert created and record.state=="running"
    claims = Claims(database, slave_id="s", lease=timedelta(seconds=5))
    fin = Finishes(database, slave_id="s")
    t=time.time()
    done=[]
    for i in range(200):
        r = queue.reserve(timeout_seconds=0)
        e = QueueEntry.from_body(r.body)
        c = claims.claim(e)
        assert isinstance(c, Claim)
        done.append((r, Result(claim=c, outcome=Outcome.SUCCEEDED if i%2 else Outcome.FAILED, exit_status=i%2, description=e.task.description, timeout_seconds=0, duration_seconds=1.0)))
    print("claim", (time.time()-t)/200)
    t=time.time()
    rec = fin.record([x for _, x in done])
    print("finish", time.time()-t)
    assert len(rec.counted)==200 and len(rec.retried)==100
    assert claims.renew([x.claim for _,x in done], busy=0,state='up',message='').lost
    for r,_ in done: queue.finish(r)
    for c in rec.retried: service.retry("j", "a"*40+f".{c.key.task}", 0, c.number)
    t=time.time()
    print(Jobs(database).get("j").counters, time.time()-t)
    t=time.time()
    r = service.cancel("j", "because")
    print("cancel", time.time()-t, r.result, r.counters)
    print(queue.statistics())
    qs.close()
