# needs: confluent-kafka kafka-python aiokafka kcat
# broker: secure
"""TLS, SASL and ACLs with every client.

The broker has a listener with SASL, one with SASL over TLS, the users `admin` (who may do everything) and `alice`,
and an authorizer.
"""

import asyncio
import os
import ssl
import subprocess

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, NewTopic
from confluent_kafka.admin import ResourcePatternType, ResourceType, ScramCredentialInfo, ScramMechanism
from confluent_kafka.admin import UserScramCredentialDeletion, UserScramCredentialUpsertion
from kafka import KafkaConsumer, KafkaProducer
from kafka import TopicPartition as PyPartition

from support import BROKER, PATIENCE, case, eventually, fails, holds, name, run, same

TLS = os.environ["FLOW_INTEROP_TLS"]
CA = os.environ["FLOW_INTEROP_CA"]
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
#: What is tried: the address, whether it is TLS, the mechanism.
DOORS = [(address, tls, one) for address, tls in ((BROKER, False), (TLS, True)) for one in MECHANISMS]


def protocol(tls):
    return "SASL_SSL" if tls else "SASL_PLAINTEXT"


def confluent(user="admin", password="admin-secret", door=DOORS[0], **more):
    address, tls, mechanism = door
    return {
        "bootstrap.servers": address,
        "security.protocol": protocol(tls),
        "sasl.mechanism": mechanism,
        "sasl.username": user,
        "sasl.password": password,
        "ssl.ca.location": CA,
        **more,
    }


#: One for all cases of a user: what one that is dropped was asked is given up.
_admins = {user: AdminClient(confluent(user, f"{user}-secret")) for user in ("admin", "alice")}


def admin(user="admin"):
    return _admins[user]


def only(futures):
    (future,) = futures.values()
    return future.result(PATIENCE)


def topic(word):
    made = name(word)
    only(admin().create_topics([NewTopic(made, 1, 1)]))
    return made


def write(settings, of, value=b"hello"):
    errors = []
    writer = Producer({**settings, "message.timeout.ms": 5000})
    writer.produce(of, value, on_delivery=lambda error, _: errors.append(error))
    writer.flush(PATIENCE)
    if errors[0]:
        raise RuntimeError(f"{errors[0].name()}: {errors[0]}")


def read_one(settings, of):
    reader = Consumer({"group.id": name("readers"), "auto.offset.reset": "earliest", **settings})
    reader.assign([TopicPartition(of, 0, 0)])
    try:
        message = eventually(lambda: reader.consume(1, 1), "a message", 20)[0]
    finally:
        reader.close()
    if message.error():
        raise RuntimeError(f"{message.error().name()}: {message.error()}")
    return message.value()


@case
def confluent_every_door():
    for door in DOORS:
        of = topic("confluent")
        write(confluent(door=door), of)
        same(read_one(confluent(door=door), of), b"hello", str(door))


@case
def kafka_python_every_door():
    for address, tls, mechanism in DOORS:
        of = topic("kafka-python")
        settings = {
            "bootstrap_servers": address,
            "security_protocol": protocol(tls),
            "sasl_mechanism": mechanism,
            "sasl_plain_username": "admin",
            "sasl_plain_password": "admin-secret",
            "ssl_cafile": CA if tls else None,
        }
        writer = KafkaProducer(**settings)
        writer.send(of, b"hello").get(PATIENCE)
        writer.close()
        reader = KafkaConsumer(auto_offset_reset="earliest", **settings)
        reader.assign([PyPartition(of, 0)])
        found = eventually(lambda: reader.poll(1000), "a record")
        same([record.value for records in found.values() for record in records], [b"hello"], mechanism)
        reader.close()


@case
def aiokafka_every_door():
    async def through(address, tls, mechanism):
        of = topic("aiokafka")
        settings = {
            "bootstrap_servers": address,
            "security_protocol": protocol(tls),
            "sasl_mechanism": mechanism,
            "sasl_plain_username": "admin",
            "sasl_plain_password": "admin-secret",
            "ssl_context": ssl.create_default_context(cafile=CA) if tls else None,
        }
        async with AIOKafkaProducer(**settings) as writer:
            await writer.send_and_wait(of, b"hello")
        reader = AIOKafkaConsumer(auto_offset_reset="earliest", **settings)
        await reader.start()
        reader.assign([AioPartition(of, 0)])
        record = await asyncio.wait_for(reader.getone(), PATIENCE)
        same(record.value, b"hello", mechanism)
        await reader.stop()

    for door in DOORS:
        asyncio.run(through(*door))


@case
def kcat_every_door():
    for door in DOORS:
        of = topic("kcat")
        settings = [part for pair in confluent(door=door).items() for part in ("-X", "=".join(pair))]
        kcat = ["kcat", "-q", *settings, "-t", of]
        subprocess.run([*kcat, "-P"], input=b"hello\n", check=True, timeout=PATIENCE)
        found = subprocess.run([*kcat, "-C", "-e", "-o", "beginning"], capture_output=True, check=True, timeout=PATIENCE)
        same(found.stdout, b"hello\n", str(door))


@case
def wrong_passwords():
    for mechanism in MECHANISMS:
        for user, password in (("admin", "wrong"), ("nobody", "admin-secret")):
            errors = []
            settings = confluent(user, password, (BROKER, False, mechanism), error_cb=errors.append)
            writer = Producer(settings)
            eventually(lambda: writer.poll(0.1) or errors, "an error comes")
            same(errors[0].name(), "_AUTHENTICATION", f"{mechanism} of {user}")


@case
def no_login_no_answer():
    """A client without SASL is not answered on a listener that asks for it."""
    errors = []
    writer = Producer({"bootstrap.servers": BROKER, "error_cb": errors.append, "message.timeout.ms": 3000})
    writer.produce("any", b"x", on_delivery=lambda error, _: errors.append(error))
    writer.flush(PATIENCE)
    holds(any(error for error in errors), "it fails")


@case
def certificate_of_a_stranger():
    errors = []
    settings = confluent(door=DOORS[3], error_cb=errors.append)
    del settings["ssl.ca.location"]
    writer = Producer(settings)
    eventually(lambda: writer.poll(0.1) or errors, "an error comes")
    holds(errors[0].name() in ("_SSL", "_ALL_BROKERS_DOWN", "_TRANSPORT"), f"the error is {errors[0]}")


def acl(kind, resource, operation, permission=AclPermissionType.ALLOW, pattern=ResourcePatternType.LITERAL):
    return AclBinding(kind, resource, pattern, "User:alice", "*", operation, permission)


def allow(*acls):
    for future in admin().create_acls(list(acls)).values():
        future.result(PATIENCE)


@case
def acls_made_found_and_deleted():
    of = name("listed")
    made = acl(ResourceType.TOPIC, of, AclOperation.READ)
    allow(made)
    every = AclBindingFilter(
        ResourceType.TOPIC, of, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    same(admin().describe_acls(every).result(PATIENCE), [made], "what is found")
    same(only(admin().delete_acls([every])), [made], "what is deleted")
    same(admin().describe_acls(every).result(PATIENCE), [], "what is left")


@case
def acls_hold():
    alice = confluent("alice", "alice-secret")
    of, hidden = topic("open"), topic("hidden")
    with fails("TOPIC_AUTHORIZATION_FAILED"):
        write(alice, of)
    allow(acl(ResourceType.TOPIC, of[:-2], AclOperation.WRITE, pattern=ResourcePatternType.PREFIXED))
    write(alice, of)
    allow(acl(ResourceType.GROUP, "readers", AclOperation.READ, pattern=ResourcePatternType.PREFIXED))
    with fails("TOPIC_AUTHORIZATION_FAILED"):
        read_one(alice, of)
    allow(acl(ResourceType.TOPIC, of, AclOperation.READ))
    same(read_one(alice, of), b"hello", "what alice reads")
    seen = admin("alice").list_topics(timeout=PATIENCE).topics
    holds(of in seen and hidden not in seen, f"alice sees what she may: {list(seen)}")
    allow(acl(ResourceType.TOPIC, of, AclOperation.WRITE, AclPermissionType.DENY))
    with fails("TOPIC_AUTHORIZATION_FAILED"):
        write(alice, of)
    with fails("CLUSTER_AUTHORIZATION_FAILED", "TOPIC_AUTHORIZATION_FAILED"):
        only(admin("alice").create_topics([NewTopic(name("hers"), 1, 1)]))
    with fails("CLUSTER_AUTHORIZATION_FAILED"):
        only(admin("alice").create_acls([acl(ResourceType.TOPIC, hidden, AclOperation.ALL)]))


@case
def acls_of_groups_and_transactions():
    alice = confluent("alice", "alice-secret")
    of, group, id = topic("worked"), name("group"), name("txn")
    write(confluent(), of)
    allow(acl(ResourceType.TOPIC, of, AclOperation.READ), acl(ResourceType.TOPIC, of, AclOperation.WRITE))

    def first():
        reader = Consumer({**alice, "group.id": group, "auto.offset.reset": "earliest"})
        reader.subscribe([of])
        try:
            message = eventually(lambda: reader.consume(1, 1), "a message")[0]
            if message.error():
                raise RuntimeError(message.error().name())
        finally:
            reader.close()

    with fails("GROUP_AUTHORIZATION_FAILED"):
        first()
    allow(acl(ResourceType.GROUP, group, AclOperation.READ))
    first()

    def transaction():
        writer = Producer({**alice, "transactional.id": id})
        writer.init_transactions(PATIENCE)
        writer.begin_transaction()
        writer.produce(of, b"in a transaction")
        writer.commit_transaction(PATIENCE)

    with fails("TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        transaction()
    allow(acl(ResourceType.TRANSACTIONAL_ID, id, AclOperation.WRITE))
    transaction()


@case
def scram_users():
    user = name("carol")
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 8192)
    only(admin().alter_user_scram_credentials([UserScramCredentialUpsertion(user, info, b"first")]))
    found = only(admin().describe_user_scram_credentials([user]))
    same(
        [(one.mechanism, one.iterations) for one in found.scram_credential_infos],
        [(ScramMechanism.SCRAM_SHA_512, 8192)],
        "what is kept",
    )
    logs_in = lambda password: AdminClient(confluent(user, password, (BROKER, False, "SCRAM-SHA-512"))).list_topics(timeout=5)
    logs_in("first")
    only(admin().alter_user_scram_credentials([UserScramCredentialUpsertion(user, info, b"second")]))
    logs_in("second")
    with fails("_TRANSPORT", "_TIMED_OUT", "_AUTHENTICATION"):
        logs_in("first")
    only(admin().alter_user_scram_credentials([UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512)]))
    with fails("RESOURCE_NOT_FOUND"):
        only(admin().describe_user_scram_credentials([user]))
    with fails("_TRANSPORT", "_TIMED_OUT", "_AUTHENTICATION"):
        logs_in("second")


run(together=4)
